package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auser/mvm/internal/diskspace"
	"github.com/auser/mvm/internal/run"
)

const mib = 1 << 20

// CreateData makes an empty data volume of sizeMiB at path, mode 0600, owned
// by uid and gid, and reports whether it did: what is at path already is left
// as it is. The folder of path is made where it is missing. A killed call
// leaves nothing at path.
func CreateData(ctx context.Context, path string, sizeMiB, uid, gid int) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	created, err = createData(ctx, path, int64(sizeMiB)*mib, uid, gid)
	if err != nil {
		return false, fmt.Errorf("cannot create the data volume %s: %w", path, err)
	}
	return created, nil
}

func createData(ctx context.Context, path string, size int64, uid, gid int) (created bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, err
	}
	d, err := newDraft(path)
	if err != nil {
		return false, err
	}
	defer d.discard(&err)
	if err := d.Chown(uid, gid); err != nil {
		return false, err
	}
	if err := d.format(ctx, size); err != nil {
		return false, err
	}
	if err := d.commitNew(); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// format makes the empty file system of a data volume. It is made in memory,
// where the syncs of mke2fs cost nothing, and written at once.
func (d *draft) format(ctx context.Context, size int64) (err error) {
	fd, err := unix.MemfdCreate("data.ext4", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL) // hosts may insist on it
	if errors.Is(err, unix.EINVAL) {                                                // Linux before 6.3 does not know it
		fd, err = unix.MemfdCreate("data.ext4", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	image := os.NewFile(uintptr(fd), "data.ext4")
	defer func() { err = errors.Join(err, image.Close()) }()
	if err := image.Truncate(size); err != nil {
		return err
	}
	if _, _, err := (tool{name: "mke2fs", args: dataArgs(), image: image}).run(ctx); err != nil {
		return err
	}
	return copySparse(ctx, d.File, image)
}

// dataFeatures are those of ext4 as e2fsprogs makes it by default, without the
// newest ones, which older guests can't mount. They are named one by one, so
// that they don't depend on the host.
const dataFeatures = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// dataArgs make a data volume: no blocks reserved for root, and nothing
// written that is zero in a new file anyway (discard and the lazy options), so
// that an empty volume takes hardly any room and a guest need not initialise
// it. After an error the guest's kernel stops writing.
func dataArgs() []string {
	return []string{
		"-q", "-F",
		"-O", dataFeatures,
		"-b", "4096", "-I", "256", "-i", "16384",
		"-m", "0", "-e", "remount-ro", "-L", "data",
		"-E", "discard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
		imageArg,
	}
}

// Report is what Acquire found and did.
type Report struct {
	Replayed bool   // the journal held changes that were not yet in their place
	Repaired bool   // the guest's kernel had met errors, and all were repaired
	Note     string // a sentence for people about it; empty where all was well
}

// Acquire makes sure that the data volume at path can be given to a guest, and
// keeps it locked, as Lock does: nothing comes between its preparation and the
// VM that gets it. After a crash it replays the journal, which loses nothing. The
// error wraps ErrForeign, ErrDamaged or ErrInUse where one of these is the reason.
func Acquire(ctx context.Context, path string) (*os.File, Report, error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return nil, Report{}, fmt.Errorf("cannot prepare the data volume: %w", err)
	}
	r, err := prepare(ctx, f)
	if err == nil {
		err = removeDrafts(filepath.Dir(path))
	}
	if err == nil {
		f, err = catchUp(ctx, f, path, &r)
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, Report{}, fmt.Errorf("cannot prepare the data volume %s: %w", path, err)
	}
	return f, r, nil
}

// leastGrowth is what a file system must lack of its image to be grown at a
// start. The tables of a last, small block group may not fit in less, and it
// would be tried in vain, with a copy, each time.
const leastGrowth = 4 * mib

// catchUp grows a file system whose image was extended while a guest had it, and
// returns the image that then stands at path, locked. That it cannot grow, for
// want of room say, keeps no guest from its data: it is noted.
func catchUp(ctx context.Context, f *os.File, path string, r *Report) (*os.File, error) {
	stat, err := statOf(f)
	if err != nil {
		return f, err
	}
	s, err := superblockOf(f)
	if err != nil || !(Info{Size: stat.Size, FileSystem: s.size()}).Lags() {
		return f, err
	}
	if err := grow(ctx, f, path, stat.Size); err != nil {
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		r.add(fmt.Sprintf("the data volume has %d MiB, its file system stays at %d MiB: %v", stat.Size/mib, s.size()/mib, err))
		return f, nil
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	r.add(fmt.Sprintf("the file system of the data volume has grown to %d MiB", stat.Size/mib))
	return lockSoon(ctx, path)
}

func (r *Report) add(note string) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += note
}

func prepare(ctx context.Context, f *os.File) (Report, error) {
	s, err := superblockOf(f)
	if err != nil {
		return Report{}, err
	}
	if !s.dirty && !s.errors {
		return Report{}, nil
	}
	if _, err := fsck(ctx, f, "-p"); err != nil {
		return Report{}, err
	}
	after, err := superblockOf(f)
	if err != nil {
		return Report{}, err
	}
	if after.dirty || after.errors {
		return Report{}, fmt.Errorf("%w: it is not clean after its journal was replayed", ErrDamaged)
	}
	if err := f.Sync(); err != nil {
		return Report{}, err
	}
	r := Report{Replayed: s.dirty, Repaired: s.errors, Note: noteReplayed}
	if s.errors {
		r.Note = noteRepaired
	}
	return r, nil
}

const (
	noteReplayed = "the data volume was not unmounted cleanly; its journal was replayed"
	noteRepaired = "the data volume had file system errors; all were repaired"
)

func superblockOf(f *os.File) (superblock, error) {
	stat, err := statOf(f)
	if err != nil {
		return superblock{}, err
	}
	return readSuperblock(f, stat.Size)
}

// Bits of e2fsck's exit code.
const (
	fsckRepaired = 0x1 | 0x2
	fsckErrors   = 0x4
)

// fsck runs e2fsck on a locked image and returns what it said. The error wraps
// ErrDamaged where it left errors in the file system.
func fsck(ctx context.Context, f *os.File, options ...string) (string, error) {
	out, said, err := tool{name: "e2fsck", args: append(options, imageArg), image: f, asOwner: true}.run(ctx)
	switch code := run.ExitCode(err); {
	case err == nil, code > 0 && code&^fsckRepaired == 0 && !slices.Contains(options, "-n"):
		return out, nil
	case code > 0 && strings.Contains(out+said, "Error writing block"):
		return out, refusal(f)
	case code > 0 && code&fsckErrors != 0:
		return out, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return out, err
}

// refusal is why the disk of f did not take what was written to f.
func refusal(f *os.File) error {
	space, err := diskspace.OfFile(f)
	if err != nil {
		return err
	}
	if space.Free < mib {
		return fmt.Errorf("cannot replay its journal or repair it, with its disk full: %w", unix.ENOSPC)
	}
	return fmt.Errorf("cannot replay its journal or repair it: %w", unix.EIO)
}

// Grow makes the data volume at path sizeMiB large. A volume does not shrink:
// a smaller size is an error, the same size none. The work is done on a copy
// that then takes the volume's place, so a call that is killed or fails leaves
// the volume as it was.
func Grow(ctx context.Context, path string, sizeMiB int) (err error) {
	f, err := lockSoon(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot grow the data volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := grow(ctx, f, path, int64(sizeMiB)*mib); err != nil {
		return fmt.Errorf("cannot grow the data volume %s: %w", path, err)
	}
	return nil
}

// Extend makes the image at path, which a VM has in use, size bytes large. Its
// file system keeps its size until the guest grows it, or Acquire does. A call
// that is killed may have happened; a smaller size is an error, the same none.
func Extend(path string, size int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot extend the data volume: %w", err)
		}
	}()
	f, err := openImage(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stat, err := statOf(f)
	if err != nil {
		return err
	}
	if size < stat.Size {
		return fmt.Errorf("%w: it has %d MiB", ErrShrink, stat.Size/mib)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// ErrShrink is inside the error of Grow to a smaller size.
var ErrShrink = errors.New("a volume cannot shrink")

func grow(ctx context.Context, f *os.File, path string, size int64) (err error) {
	s, err := superblockOf(f)
	if err != nil {
		return err
	}
	stat, err := statOf(f)
	if err != nil {
		return err
	}
	if now := max(s.size(), stat.Size); size < now { // it may have been extended
		return fmt.Errorf("%w: it has %d MiB", ErrShrink, now/mib)
	}
	if size == s.size() {
		return nil
	}
	d, _, err := cloneDraft(ctx, f, path, false)
	if err != nil {
		return err
	}
	defer d.discard(&err)
	if err := d.enlarge(ctx, size); err != nil {
		return err
	}
	return d.commit()
}

// enlarge makes a draft and its file system size bytes large, unless they are
// larger.
func (d *draft) enlarge(ctx context.Context, size int64) error {
	s, err := superblockOf(d.File)
	if err != nil || size <= s.size() {
		return err
	}
	if err := d.Truncate(size); err != nil {
		return err
	}
	// resize2fs insists on a file system that was checked after its last use.
	if _, err := fsck(ctx, d.File, "-f", "-p"); err != nil {
		return err
	}
	resize := tool{name: "resize2fs", args: []string{imageArg, strconv.FormatInt(size/1024, 10) + "K"}, image: d.File, asOwner: true}
	_, _, err = resize.run(ctx)
	return err
}
