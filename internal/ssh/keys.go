package ssh

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	gossh "golang.org/x/crypto/ssh"

	"github.com/auser/mvm/internal/atomicfile"
)

// Ensure makes what is missing in the tenant's ssh folder: the client's key
// pair, the guest's host key pair, and known_hosts, which pins that host key
// under the tenant's id. Private keys that are there are kept; the other files
// follow from them. It can be killed at any instant and run again. The caller
// holds the tenant's lock.
func Ensure(dir, id string) error {
	if err := ensure(dir, id); err != nil {
		return fmt.Errorf("cannot make the SSH keys of %s: %w", id, err)
	}
	return nil
}

func ensure(dir, id string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	if err := atomicfile.Sweep(dir); err != nil { // a key of a killed call is a key, too
		return err
	}
	client, err := ensureKey(dir, ClientKey, "mvm-"+id)
	if err != nil {
		return err
	}
	host, err := ensureKey(dir, HostKey, "")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		ClientKey + ".pub": publicLine(client, "mvm-"+id),
		HostKey + ".pub":   publicLine(host, ""),
		KnownHosts:         id + " " + publicLine(host, ""),
	} {
		if err := ensureText(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

// ensureKey returns the public half of the key at dir/name, which it makes
// where there is none.
func ensureKey(dir, name, comment string) (gossh.PublicKey, error) {
	path := filepath.Join(dir, name)
	signer, err := readKey(path)
	if err == nil {
		// The ssh client refuses a key that others can read.
		return signer.PublicKey(), os.Chmod(path, 0o600)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := gossh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return gossh.NewPublicKey(public)
}

func readKey(path string) (gossh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := gossh.ParsePrivateKey(data)
	if err != nil {
		// The cause may not quote the key: it names the format only.
		return nil, fmt.Errorf("%s holds no private key: %w", path, err)
	}
	if kind := signer.PublicKey().Type(); kind != gossh.KeyAlgoED25519 {
		return nil, fmt.Errorf("%s holds a key of type %s, want %s", path, kind, gossh.KeyAlgoED25519)
	}
	return signer, nil
}

// publicLine is key as one line of an authorized_keys or .pub file.
func publicLine(key gossh.PublicKey, comment string) string {
	line := string(gossh.MarshalAuthorizedKey(key))
	if comment == "" {
		return line
	}
	return line[:len(line)-1] + " " + comment + "\n"
}

// GuestFile is a file for the folder ssh/ of the guest's secrets drive.
type GuestFile struct {
	Name string
	Data []byte
}

// GuestFiles are the files that let the tenant's key, and only it, into a
// guest that shows the tenant's host key.
func GuestFiles(dir string) ([]GuestFile, error) {
	authorized, err := os.ReadFile(filepath.Join(dir, ClientKey+".pub"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the client's public key: %w", err)
	}
	host, err := os.ReadFile(filepath.Join(dir, HostKey))
	if err != nil {
		return nil, fmt.Errorf("cannot read the guest's host key: %w", err)
	}
	return []GuestFile{
		{Name: "authorized_keys", Data: authorized},
		{Name: HostKey, Data: host},
	}, nil
}

// ensureText writes a file that follows from others, if it is not so already.
func ensureText(path, text string) error {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == text {
		return os.Chmod(path, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.Write(path, []byte(text), 0o600)
}
