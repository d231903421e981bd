package vmmtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pierrec/lz4/v4"

	"github.com/auser/mvm/internal/flock"
	"github.com/auser/mvm/internal/run"
)

// Guest is the smallest guest that shows what a driver does: Debian's cloud
// kernel and a busybox.
type Guest struct {
	Kernel string // an uncompressed vmlinux
	Initrd string
}

// CacheEnv names the folder in which the guest is kept between runs. The
// default is .cache in the repository.
const CacheEnv = "MVM_TEST_CACHE"

// guestVersion changes when the initrd does.
const guestVersion = "7"

// modules are loaded in this order; virtio before virtio_ring fails.
var modules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_mmio", "drivers/block/virtio_blk",
	"net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
	"drivers/char/hw_random/virtio-rng", "drivers/virtio/virtio_balloon",
}

// FindGuest returns the guest, and makes it where it is not in the cache yet:
// from Debian's kernel package, which apt-get downloads, and the installed
// busybox-static.
func FindGuest(ctx context.Context) (Guest, error) {
	cache := os.Getenv(CacheEnv)
	if cache == "" {
		repo, err := repository()
		if err != nil {
			return Guest{}, err
		}
		cache = filepath.Join(repo, ".cache")
	}
	dir := filepath.Join(cache, "test-guest-"+guestVersion+"-"+runtime.GOARCH)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Guest{}, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return Guest{}, err
	}
	defer lock.Close()
	if err := flock.Lock(lock, unix.LOCK_EX); err != nil {
		return Guest{}, err
	}
	g := Guest{filepath.Join(dir, "vmlinux"), filepath.Join(dir, "initrd")}
	if _, err := os.Stat(g.Initrd); err == nil { // it is written last
		return g, nil
	}
	if err := makeGuest(ctx, g); err != nil {
		return Guest{}, fmt.Errorf("cannot make the test guest: %w", err)
	}
	return g, nil
}

func repository() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cannot find the repository; set %s: %w", CacheEnv, err)
}

func makeGuest(ctx context.Context, g Guest) error {
	tmp, err := os.MkdirTemp("", "vmmtest-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, err := unpackKernel(ctx, tmp)
	if err != nil {
		return err
	}
	kernels, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("the package holds %d kernels: %w", len(kernels), err)
	}
	kernel, err := os.ReadFile(kernels[0])
	if err != nil {
		return err
	}
	if runtime.GOARCH == "amd64" { // on arm64 the Image is what VMMs boot
		if kernel, err = vmlinux(kernel); err != nil {
			return err
		}
	}
	initrd, err := makeInitrd(root)
	if err != nil {
		return err
	}
	if err := os.WriteFile(g.Kernel, kernel, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(g.Initrd+".new", initrd, 0o644); err != nil {
		return err
	}
	return os.Rename(g.Initrd+".new", g.Initrd)
}

// unpackKernel downloads Debian's kernel package and unpacks it below tmp.
func unpackKernel(ctx context.Context, tmp string) (string, error) {
	pkg := "linux-image-cloud-" + runtime.GOARCH
	out, err := run.Output(ctx, "apt-cache", "depends", "--important", pkg)
	if err != nil {
		return "", err
	}
	_, image, ok := strings.Cut(string(out), "Depends: ")
	if !ok {
		return "", fmt.Errorf("apt knows no %s: run apt-get update", pkg)
	}
	image = strings.Fields(image)[0]
	if err := run.Run(ctx, run.Command{Name: "apt-get", Args: []string{"download", "-q", image}, Dir: tmp}); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages: %w", image, len(debs), err)
	}
	root := filepath.Join(tmp, "root")
	_, err = run.Output(ctx, "dpkg-deb", "-x", debs[0], root)
	return root, err
}

// vmlinux takes the ELF file out of a bzImage with an LZ4 payload (Linux's
// Documentation/arch/x86/boot.rst).
func vmlinux(bz []byte) ([]byte, error) {
	if len(bz) < 0x250 || string(bz[0x202:0x206]) != "HdrS" {
		return nil, errors.New("this is no bzImage")
	}
	setup := (int(bz[0x1f1]) + 1) * 512
	at := setup + int(binary.LittleEndian.Uint32(bz[0x248:]))
	end := at + int(binary.LittleEndian.Uint32(bz[0x24c:]))
	if at > end || end > len(bz) {
		return nil, errors.New("the payload is cut short")
	}
	// Behind the blocks, the last word is the size of what they unpack to.
	kernel, err := io.ReadAll(lz4.NewReader(bytes.NewReader(bz[at : end-4])))
	if err == nil && !bytes.HasPrefix(kernel, []byte("\x7fELF")) {
		err = errors.New("the payload is no ELF file")
	}
	return kernel, err
}

func makeInitrd(root string) ([]byte, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("install busybox-static: %w", err)
	}
	var c cpio
	for _, dir := range []string{"bin", "dev", "proc", "sys", "mod", "tmp"} {
		c.add(dir, 0o40755, nil)
	}
	c.add("bin/busybox", 0o100755, busybox)
	c.add("init", 0o100755, []byte(initScript))
	c.add("command", 0o100755, []byte(commandScript))
	for i, m := range modules {
		found, _ := filepath.Glob(filepath.Join(root, "lib/modules/*/kernel", m+".ko"))
		if len(found) != 1 {
			return nil, fmt.Errorf("the kernel package has no module %s", m)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			return nil, err
		}
		c.add(fmt.Sprintf("mod/%02d.ko", i), 0o100644, data)
	}
	c.add("TRAILER!!!", 0, nil)
	return c.Bytes(), nil
}

// cpio writes the newc format, as the kernel reads it.
type cpio struct {
	bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.pad()
	c.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}

// initScript tells on the console what the guest sees, then does what the
// word mvm.test= asks for. Without one it ticks and takes commands on port 7.
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in /mod/*.ko; do insmod $m; done
echo 'guest: up'
for d in vda vdb vdc; do
	echo "guest: disk $d sectors=$(cat /sys/block/$d/size) ro=$(cat /sys/block/$d/ro) head=$(head -c 8 /dev/$d)"
done
echo "guest: mac $(cat /sys/class/net/eth0/address)"
echo "guest: cpus $(nproc) memory $(sed -n 's/MemTotal: *//p' /proc/meminfo)"
echo "guest: rng $(cat /sys/class/misc/hw_random/rng_current)"
echo "guest: cmdline $(cat /proc/cmdline)"
ip=$(sed -n 's/.*ip=\([0-9.]*\):.*/\1/p' /proc/cmdline)
ifconfig lo 127.0.0.1
ifconfig eth0 $ip netmask 255.255.255.0
nc -ll -p 7 -e /command &
mode=$(sed -n 's/.*mvm.test=\([a-z]*\).*/\1/p' /proc/cmdline)
echo "guest: ready $mode"
case "$mode" in
poweroff) poweroff -f ;;
reboot) reboot -f ;;
panic) echo c > /proc/sysrq-trigger ;;
flood) yes 'guest: flood flood flood flood flood flood' & ;;
memory)
	mount -t tmpfs -o size=70% tmpfs /tmp
	dd if=/dev/zero of=/tmp/fill bs=1M
	;;
disk)
	n=0
	while [ $n -lt 40 ]; do
		while :; do dd if=/dev/vda of=/dev/null bs=4096 count=2048 iflag=direct 2>/dev/null; done &
		n=$((n+1))
	done
	;;
cpu) for i in 1 2 3 4; do while :; do :; done & done ;;
esac
i=0
while :; do
	[ "$mode" = flood ] || echo "guest: tick $i"
	i=$((i+1))
	sleep 0.1
done
`

// commandScript answers one line on the guest's port 7.
const commandScript = `#!/bin/busybox sh
read line
case "$line" in
ping) echo pong ;;
reboot) echo bye; reboot -f ;;
write) dd if=/dev/zero of=/dev/vdb bs=4096 count=1 seek=1 conv=fsync 2>&1 && echo written ;;
grow) dd if=/dev/zero of=/dev/vdb bs=4096 count=1 seek=1000000 2>&1 | head -n 1 ;;
size) cat /sys/block/vdb/size ;;
writelast) echo last | dd of=/dev/vdb bs=512 seek=$(($(cat /sys/block/vdb/size) - 1)) conv=fsync 2>&1 && echo written ;;
writeroot) dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>&1 || echo refused ;;
esac
`
