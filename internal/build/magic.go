package build

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// checkArtifact says why f cannot be the artifact called name.
func checkArtifact(name, system string, f *os.File, checkBase func([]byte) error) error {
	switch name {
	case Kernel:
		return checkKernel(f, system)
	case Rootfs:
		return checkExt4(f)
	case BaseConfig:
		return checkBaseConfig(f, checkBase)
	}
	return checkNotEmpty(f)
}

const (
	elfX86  = 62  // EM_X86_64
	elfARM  = 183 // EM_AARCH64
	elfETOf = 18  // e_machine
)

// checkKernel wants what the VMMs boot: an uncompressed ELF on x86_64, an
// uncompressed Image on aarch64.
func checkKernel(f *os.File, system string) error {
	head := make([]byte, 0x210)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	found := kernelKind(head)
	want := map[string]string{"x86_64-linux": kernelELFX86, "aarch64-linux": kernelImageARM}[system]
	if found == want {
		return nil
	}
	return &Error{Kind: ErrInput,
		Msg:  fmt.Sprintf("tenant-kernel is %s, and %s boots %s", found, strings.TrimSuffix(system, "-linux"), want),
		Hint: "on x86_64 export vmlinux (not bzImage), on aarch64 Image (not Image.gz)"}
}

const (
	kernelELFX86   = "an x86_64 ELF vmlinux"
	kernelELFARM   = "an aarch64 ELF vmlinux"
	kernelImageARM = "an aarch64 Image"
)

func kernelKind(head []byte) string {
	at := func(offset int, magic string) bool {
		return len(head) >= offset+len(magic) && string(head[offset:offset+len(magic)]) == magic
	}
	switch {
	case at(0, "\x7fELF") && len(head) > elfETOf+1:
		switch machine := binary.LittleEndian.Uint16(head[elfETOf:]); machine {
		case elfX86:
			return kernelELFX86
		case elfARM:
			return kernelELFARM
		default:
			return fmt.Sprintf("an ELF file for machine %d", machine)
		}
	case at(4, "zimg"):
		return "a compressed EFI image"
	case at(56, "ARM\x64"):
		return kernelImageARM
	case at(0x202, "HdrS"):
		return "a compressed x86 bzImage"
	case at(0, "\x1f\x8b"):
		return "gzip-compressed"
	case at(0, "\x28\xb5\x2f\xfd"):
		return "zstd-compressed"
	case len(head) == 0:
		return "empty"
	}
	return "no Linux kernel"
}

// checkExt4 reads the superblock: its magic, and that the file is as long as
// the file system says.
func checkExt4(f *os.File) error {
	notExt4 := func(why string) error {
		return &Error{Kind: ErrInput, Msg: "tenant-rootfs is no ext4 image: " + why,
			Hint: "the output must be an ext4 file system without a partition table, or a folder holding one"}
	}
	sb := make([]byte, 1024)
	if _, err := f.ReadAt(sb, 1024); errors.Is(err, io.EOF) {
		return notExt4("it is too short")
	} else if err != nil {
		return err
	}
	if binary.LittleEndian.Uint16(sb[0x38:]) != 0xEF53 {
		return notExt4("it has no ext superblock")
	}
	if incompat := binary.LittleEndian.Uint32(sb[0x60:]); incompat&0x40 == 0 {
		return notExt4("it has no extents, so it is ext2 or ext3")
	}
	blocks := uint64(binary.LittleEndian.Uint32(sb[0x4:]))
	if binary.LittleEndian.Uint32(sb[0x60:])&0x80 != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(sb[0x150:])) << 32
	}
	shift := binary.LittleEndian.Uint32(sb[0x18:])
	if shift > 6 {
		return notExt4("its block size makes no sense")
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if uint64(info.Size()) < blocks<<(10+shift) {
		return notExt4(fmt.Sprintf("it is cut off: %d bytes of %d", info.Size(), blocks<<(10+shift)))
	}
	return nil
}

// maxBaseConfig is far more than any machine description needs.
const maxBaseConfig = 1 << 20

func checkBaseConfig(f *os.File, check func([]byte) error) error {
	data, err := io.ReadAll(io.LimitReader(f, maxBaseConfig+1))
	if err != nil {
		return err
	}
	bad := func(err error) error {
		return &Error{Kind: ErrInput, Msg: "tenant-fc-base is no usable Firecracker configuration", Err: err,
			Hint: "it is a JSON object with Firecracker's own keys"}
	}
	if len(data) > maxBaseConfig {
		return bad(fmt.Errorf("it is larger than %d bytes", maxBaseConfig))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	var object map[string]json.RawMessage
	if err := dec.Decode(&object); err != nil {
		return bad(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad(errors.New("something follows the object"))
	}
	if object == nil {
		return bad(errors.New("it is null"))
	}
	if check != nil {
		if err := check(data); err != nil {
			return bad(err)
		}
	}
	return nil
}

func checkNotEmpty(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return &Error{Kind: ErrInput, Msg: "tenant-initrd is empty", Hint: "leave the output out where there is no initrd"}
	}
	return nil
}
