package jail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// defaultSizeMiB has room for the secrets and for the copy of itself that
// Firecracker's jailer makes.
const defaultSizeMiB = 64

// What is written to, and what is only read, in a jail.
const (
	writable = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	readOnly = writable | unix.MS_RDONLY
	programs = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY
)

// Make builds the jail. What an earlier one left at the same place is
// unmounted first.
func Make(s Spec) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make the jail: %w", err), Remove(s.Root))
		}
	}()
	if s.UID == 0 || s.GID == 0 {
		return errors.New("it cannot belong to root")
	}
	if err := Remove(s.Root); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Root, 0o700); err != nil {
		return err
	}
	size := s.SizeMiB
	if size == 0 {
		size = defaultSizeMiB
	}
	if err := mountMemory(s.Root, size); err != nil {
		return err
	}
	for _, f := range s.files() {
		if err := f.mount(s.Root); err != nil {
			return err
		}
	}
	if err := s.mountRun(); err != nil {
		return err
	}
	for _, l := range s.Needs.Links {
		if err := makeLink(s.Root, l); err != nil {
			return err
		}
	}
	for _, dev := range s.Needs.Devices {
		if err := s.makeDevice(dev); err != nil {
			return err
		}
	}
	return nil
}

// mountMemory mounts the tmpfs that everything else is mounted in. Devices and
// programs are in it, so neither nodev nor noexec. The secrets are in it, too,
// so it is kept out of swap where the kernel can do that: from Linux 6.4 on.
func mountMemory(at string, sizeMiB int) error {
	options := fmt.Sprintf("size=%dm,nr_inodes=16384,mode=755", sizeMiB)
	err := unix.Mount("mvm-jail", at, "tmpfs", unix.MS_NOSUID, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("mvm-jail", at, "tmpfs", unix.MS_NOSUID, options)
	}
	if err != nil {
		return fmt.Errorf("cannot mount a tmpfs at %s: %w", at, err)
	}
	return nil
}

// mountRun mounts the folder that is the VMM's to write to. It has room for a
// few sockets and pipes: a VMM that its guest has taken over shall fill nothing.
func (s Spec) mountRun() error {
	at := filepath.Join(s.Root, Run)
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	options := fmt.Sprintf("size=1m,nr_inodes=32,mode=700,uid=%d,gid=%d", s.UID, s.GID)
	if err := unix.Mount("mvm-jail-run", at, "tmpfs", writable, options); err != nil {
		return fmt.Errorf("cannot mount a tmpfs at %s: %w", at, err)
	}
	return nil
}

// A file is one bind mount of the jail.
type file struct {
	Bind
	flags uintptr
}

func (s Spec) files() []file {
	all := []file{
		{Bind{s.Kernel, Kernel}, readOnly},
		{Bind{s.Rootfs, Rootfs}, readOnly},
		{Bind{s.Data, Data}, writable},
	}
	if s.Initrd != "" {
		all = append(all, file{Bind{s.Initrd, Initrd}, readOnly})
	}
	for _, b := range s.Volumes {
		all = append(all, file{b, writable})
	}
	for _, b := range s.Needs.Binds {
		all = append(all, file{b, programs})
	}
	return all
}

// mount binds the file at its place. A bind mount takes its flags only when it
// is mounted a second time.
func (f file) mount(root string) error {
	info, err := os.Stat(f.Host)
	if err != nil {
		return err
	}
	at := filepath.Join(root, f.Jail)
	if err := makePlace(at, info.IsDir()); err != nil {
		return err
	}
	if err := unix.Mount(f.Host, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s to %s: %w", f.Host, f.Jail, err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|f.flags, ""); err != nil {
		return fmt.Errorf("cannot restrict %s: %w", f.Jail, err)
	}
	return nil
}

func makePlace(at string, dir bool) error {
	if dir {
		return os.MkdirAll(at, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	return f.Close()
}

func makeLink(root string, l Link) error {
	at := filepath.Join(root, l.Path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.Symlink(l.Target, at)
}

// makeDevice makes the same device as the host's, for the VMM's user alone.
func (s Spec) makeDevice(dev string) error {
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		return fmt.Errorf("cannot give the VMM %s: %w", dev, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return fmt.Errorf("cannot give the VMM %s: it is no character device", dev)
	}
	at := filepath.Join(s.Root, dev)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(at, unix.S_IFCHR|0o600, int(st.Rdev)); err != nil {
		return fmt.Errorf("cannot make %s: %w", at, err)
	}
	return os.Chown(at, s.UID, s.GID)
}

// Remove unmounts the jail with all that is mounted in it, and leaves no
// folder where that is empty. It is no error if there is no jail.
func Remove(root string) error {
	real, err := filepath.EvalSymlinks(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mounts, err := mountsBelow(real)
	if err != nil {
		return err
	}
	slices.Reverse(mounts) // the last mounted first
	for _, at := range mounts {
		if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL {
			return fmt.Errorf("cannot unmount %s: %w", at, err)
		}
	}
	// What is left is the empty folder that the jail was mounted on. If
	// anything is in it, it is not ours to remove.
	if err := os.Remove(real); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// mountsBelow are the mount points at root and below, in the order in which
// they were mounted.
func mountsBelow(root string) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var at []string
	for line := range strings.Lines(string(info)) {
		words := strings.Fields(line)
		if len(words) < 5 {
			continue
		}
		if dir := unescape(words[4]); dir == root || strings.HasPrefix(dir, root+"/") {
			at = append(at, dir)
		}
	}
	return at, nil
}

// unescape undoes mountinfo's \040 and the like.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
