package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// ErrSealed is inside the error about an encrypted secrets.json that can't be
// read without the identity that it was encrypted for.
var ErrSealed = errors.New("the secrets are encrypted")

// Sealer encrypts secrets.json at rest with age. A nil Sealer leaves it plain.
type Sealer struct {
	identities []age.Identity
	recipients []age.Recipient
}

// NewSealer makes a Sealer of an age identity file, as age-keygen writes it.
// Whatever it seals, each of the identities can open.
func NewSealer(identityFile []byte) (*Sealer, error) {
	identities, err := age.ParseIdentities(bytes.NewReader(identityFile))
	if err != nil {
		// The cause may quote characters of a key.
		return nil, errors.New("cannot read the age identities: there are none, or one is malformed")
	}
	s := &Sealer{identities: identities}
	for _, identity := range identities {
		switch i := identity.(type) {
		case *age.X25519Identity:
			s.recipients = append(s.recipients, i.Recipient())
		case *age.HybridIdentity:
			s.recipients = append(s.recipients, i.Recipient())
		default:
			return nil, fmt.Errorf("cannot encrypt for an age identity of type %T", identity)
		}
	}
	return s, nil
}

// Seal returns what secrets.json shall hold for the document plain: an age
// file in its text form.
func (s *Sealer) Seal(plain []byte) ([]byte, error) {
	if s == nil {
		return plain, nil
	}
	sealed, err := s.seal(plain)
	if err != nil {
		return nil, fmt.Errorf("cannot encrypt the secrets: %w", err)
	}
	return sealed, nil
}

func (s *Sealer) seal(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, s.recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), text.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Open returns the document in what secrets.json holds. One that is not
// encrypted is returned as it is, so that a Sealer can be configured later.
func (s *Sealer) Open(data []byte) ([]byte, error) {
	if !isSealed(data) {
		return data, nil
	}
	if s == nil {
		return nil, fmt.Errorf("%w, and no age identity is configured", ErrSealed)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), s.identities...)
	if err != nil {
		return nil, fmt.Errorf("%w, and cannot be decrypted: %w", ErrSealed, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxDocumentSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w, and cannot be decrypted: %w", ErrSealed, err)
	}
	return plain, nil
}

func isSealed(data []byte) bool { return bytes.HasPrefix(data, []byte(armor.Header)) }
