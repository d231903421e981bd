package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/auser/mvm/internal/atomicfile"
)

// WriteJSON writes v, indented for people, readable by the owner only.
func WriteJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", path, err)
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

// SweepHostTemp removes what killed writes of shared files left.
func (s *Store) SweepHostTemp() error {
	return errors.Join(atomicfile.Sweep(s.Root), atomicfile.Sweep(filepath.Dir(s.LeasesFile())), atomicfile.Sweep(s.auditDir()))
}

// SHA256 is the hexadecimal digest of data.
func SHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
