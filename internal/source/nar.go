package source

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
)

// The Nix archive format: a canonical serialisation of a file tree. Its hash is
// what Nix calls the narHash, so that a snapshot's name and what Nix says of
// the same source can be compared.

// narSink sees every entry of a tree in order. Where it returns a writer for a
// file, the contents go there, too.
type narSink func(e *entry) (io.WriteCloser, error)

type narWriter struct {
	w    *bufio.Writer
	tree *sourceTree
	sink narSink
	buf  []byte
}

// narHash returns the hash of the tree; sink may be nil.
func narHash(t *sourceTree, sink narSink) (narDigest, error) {
	h := sha256.New()
	if err := writeNAR(h, t, sink); err != nil {
		return narDigest{}, err
	}
	return sumOf(h), nil
}

func writeNAR(w io.Writer, t *sourceTree, sink narSink) error {
	if sink == nil {
		sink = func(*entry) (io.WriteCloser, error) { return nil, nil }
	}
	n := &narWriter{w: bufio.NewWriterSize(w, 1<<16), tree: t, sink: sink, buf: make([]byte, 1<<17)}
	n.strings("nix-archive-1")
	if err := n.node(t.entries[""]); err != nil {
		return err
	}
	return n.w.Flush()
}

func (n *narWriter) node(e *entry) error {
	n.strings("(", "type")
	switch e.kind {
	case symlink:
		n.strings("symlink", "target", e.target)
		if _, err := n.sink(e); err != nil {
			return err
		}
	case folder:
		n.strings("directory")
		if _, err := n.sink(e); err != nil {
			return err
		}
		for _, name := range e.children {
			n.strings("entry", "(", "name", name, "node")
			if err := n.node(n.tree.entries[path.Join(e.path, name)]); err != nil {
				return err
			}
			n.strings(")")
		}
	case regularFile:
		n.strings("regular")
		if e.executable {
			n.strings("executable", "")
		}
		n.strings("contents")
		if err := n.contents(e); err != nil {
			return err
		}
	}
	n.strings(")")
	return nil
}

func (n *narWriter) contents(e *entry) error {
	r, err := n.tree.open(e)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := n.sink(e)
	if err != nil {
		return err
	}
	n.length(e.size)
	dst := io.Writer(n.w)
	if out != nil {
		defer out.Close() // after an error; the second Close of a file is harmless
		dst = io.MultiWriter(n.w, out)
	}
	// One byte more than was listed would show that the file grew.
	written, err := io.CopyBuffer(onlyWriter{dst}, io.LimitReader(r, e.size+1), n.buf)
	if err != nil {
		return err
	}
	if written != e.size {
		return fmt.Errorf("%q changed while it was read", e.path)
	}
	n.pad(e.size)
	if out != nil {
		return out.Close()
	}
	return nil
}

// onlyWriter hides ReadFrom, so that CopyBuffer uses the buffer it was given.
type onlyWriter struct{ io.Writer }

// strings writes length-prefixed, padded strings. The buffered writer keeps
// the first error for Flush.
func (n *narWriter) strings(list ...string) {
	for _, s := range list {
		n.length(int64(len(s)))
		n.w.WriteString(s)
		n.pad(int64(len(s)))
	}
}

func (n *narWriter) length(size int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(size))
	n.w.Write(b[:])
}

func (n *narWriter) pad(size int64) {
	var zero [8]byte
	if rest := size % 8; rest != 0 {
		n.w.Write(zero[:8-rest])
	}
}

// narDigest is a sha256 in the two spellings that are needed.
type narDigest [sha256.Size]byte

func sumOf(h hash.Hash) narDigest { return narDigest(h.Sum(nil)) }

// Hex names folders, because base64 has a slash.
func (d narDigest) Hex() string { return hex.EncodeToString(d[:]) }

// SRI is how Nix writes it.
func (d narDigest) SRI() string { return "sha256-" + base64.StdEncoding.EncodeToString(d[:]) }
