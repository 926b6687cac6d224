package persist

import (
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// A manager that was killed and that nobody has reaped holds nothing.
func TestAZombieIsNotAlive(t *testing.T) {
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	const pPID, wExited, wNoWait = 1, 4, 0x01000000 // waitid(2)
	var info [128]byte
	if _, _, e := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(p.Pid), uintptr(unsafe.Pointer(&info)), wExited|wNoWait, 0, 0); e != 0 {
		t.Fatal(e)
	}
	if alive(p.Pid) {
		t.Error("it counts as alive")
	}
	if !alive(os.Getpid()) {
		t.Error("this process doesn't")
	}
}
