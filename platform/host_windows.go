package platform

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/cyber-boost/syspulse/spec"
)

// Each tree is held by a job object, named after the incarnation. A named object
// loses its name with its last handle, so the first process is given one: the next
// manager can open the job by name as long as that process lives.

var (
	ntdll         = windows.NewLazySystemDLL("ntdll.dll")
	resumeProcess = ntdll.NewProc("NtResumeProcess")
	kernel32      = windows.NewLazySystemDLL("kernel32.dll")
	openJobObject = kernel32.NewProc("OpenJobObjectW")
	tickCount     = kernel32.NewProc("GetTickCount64")
)

// New opens the host.
func New(Options) (Host, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &host{null: null, procs: make(map[string]*process)}, nil
}

type host struct {
	null  *os.File
	mu    sync.Mutex
	procs map[string]*process // by incarnation, until released
}

// BootID is always the same: Windows has none, and the creation time of a process,
// a date with 100 ns, proves it across boots as well.
func (h *host) BootID() string { return "windows" }

func (h *host) Uptime() time.Duration {
	ms, _, _ := tickCount.Call()
	return time.Duration(ms) * time.Millisecond
}

func (h *host) Start(c Command) (Process, error) {
	if err := checkCommand(&c); err != nil {
		return nil, err
	}
	if c.Account != nil {
		return nil, startError(StageUser, nil, "user is not supported on Windows")
	}
	if c.Dir != "" {
		if fi, err := os.Stat(c.Dir); err != nil || !fi.IsDir() {
			return nil, startError(StageWorkingDir, err, "working_dir %s does not exist", c.Dir)
		}
	}
	path, serr := findProgram(c.Args[0], c.Dir, c.Env)
	if serr != nil {
		return nil, serr
	}
	job, err := windows.CreateJobObject(nil, jobName(c.Incarnation))
	if err != nil {
		return nil, startError(StageSystem, err, "job object: %v", err)
	}
	files := []uintptr{h.null.Fd(), h.null.Fd(), h.null.Fd()}
	for i, f := range []*os.File{c.Stdout, c.Stderr} {
		if f != nil {
			files[i+1] = f.Fd()
		}
	}
	pid, handle, err := syscall.StartProcess(path, c.Args, &syscall.ProcAttr{
		Dir: c.Dir, Env: marked(c.Env, c.Incarnation), Files: files,
		Sys: &syscall.SysProcAttr{CmdLine: c.Line, CreationFlags: windows.CREATE_SUSPENDED | windows.CREATE_NEW_PROCESS_GROUP, HideWindow: true},
	})
	if err != nil {
		windows.CloseHandle(job)
		return nil, explain(err, path)
	}
	child := windows.Handle(handle)
	err = windows.AssignProcessToJobObject(job, child)
	if err == nil {
		var theirs windows.Handle
		_ = windows.DuplicateHandle(windows.CurrentProcess(), job, child, &theirs, 0, false, windows.DUPLICATE_SAME_ACCESS)
		if status, _, _ := resumeProcess.Call(uintptr(child)); status != 0 {
			err = windows.NTStatus(status)
		}
	}
	if err != nil {
		_ = windows.TerminateProcess(child, 1)
		windows.CloseHandle(child)
		windows.CloseHandle(job)
		return nil, startError(StageSystem, err, "job object: %v", err)
	}
	return h.watch(&process{host: h, incarnation: c.Incarnation, handle: child, job: job,
		id: Identity{BootID: h.BootID(), PID: pid, StartTime: creationTime(child)}}), nil
}

func jobName(incarnation string) *uint16 {
	p, _ := windows.UTF16PtrFromString(`Local\syspulse-` + incarnation)
	return p
}

func openJob(incarnation string) (windows.Handle, bool) {
	const jobObjectAllAccess = 0x1f001f
	h, _, _ := openJobObject.Call(jobObjectAllAccess, 0, uintptr(unsafe.Pointer(jobName(incarnation))))
	return windows.Handle(h), h != 0
}

func creationTime(h windows.Handle) uint64 {
	var created, exited, kernel, user windows.Filetime
	if windows.GetProcessTimes(h, &created, &exited, &kernel, &user) != nil {
		return 0
	}
	return uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime)
}

func (h *host) Age(id Identity) time.Duration {
	if id.StartTime == 0 {
		return 0
	}
	created := windows.Filetime{HighDateTime: uint32(id.StartTime >> 32), LowDateTime: uint32(id.StartTime)}
	return max(time.Since(time.Unix(0, created.Nanoseconds())), 0)
}

// findProgram looks a program up in the PATH of env, with the extensions of its PATHEXT.
func findProgram(name, dir string, env []string) (string, *StartError) {
	exts := []string{".com", ".exe", ".bat", ".cmd"}
	if v, ok := lookupEnv(env, "PATHEXT"); ok {
		exts = strings.Split(strings.ToLower(v), ";")
	}
	if filepath.Ext(name) != "" {
		exts = append([]string{""}, exts...)
	}
	dirs := []string{dir}
	path, _ := lookupEnv(env, "PATH")
	if !strings.ContainsAny(name, `\/:`) {
		dirs = filepath.SplitList(path)
	}
	for _, d := range dirs {
		base := name
		if !filepath.IsAbs(name) && d != "" {
			base = filepath.Join(d, name)
		}
		for _, ext := range exts {
			if fi, err := os.Stat(base + ext); err == nil && !fi.IsDir() {
				abs, err := filepath.Abs(base + ext)
				if err == nil {
					return abs, nil
				}
			}
		}
	}
	if strings.ContainsAny(name, `\/:`) {
		return "", startError(StageProgram, os.ErrNotExist, "program %s does not exist", name)
	}
	return "", startError(StageProgram, os.ErrNotExist, "program %q not found in PATH (%s)", name, path)
}

func explain(err error, path string) *StartError {
	switch {
	case errors.Is(err, windows.ERROR_BAD_EXE_FORMAT), errors.Is(err, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH):
		return startError(StageProgram, err, "program %s is in no format that this system can execute", path)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return startError(StageProgram, err, "program %s: access denied", path)
	case errors.Is(err, windows.ERROR_FILENAME_EXCED_RANGE):
		return startError(StageCommand, err, "the command line is too long for Windows (32,767 characters)")
	}
	return startError(StageProgram, err, "program %s could not be started: %v", path, err)
}

func (h *host) watch(p *process) *process {
	p.quick, p.await = p.jobEmpty, p.awaitEmpty
	h.mu.Lock()
	h.procs[p.incarnation] = p
	h.mu.Unlock()
	go p.wait()
	return p
}

func (h *host) known(incarnation string) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.procs[incarnation]
}

func (h *host) Adopt(id Identity, incarnation string) (Process, error) {
	if p := h.known(incarnation); p != nil && p.id == id {
		return p, nil
	}
	gone := &GoneError{Why: fmt.Sprintf("process %d has ended", id.PID)}
	const access = windows.PROCESS_QUERY_LIMITED_INFORMATION | windows.PROCESS_TERMINATE | windows.SYNCHRONIZE
	handle, err := windows.OpenProcess(access, false, uint32(id.PID))
	if err != nil || id.BootID != h.BootID() {
		if err == nil {
			windows.CloseHandle(handle)
		}
		return nil, gone
	}
	if id.StartTime == 0 || creationTime(handle) != id.StartTime {
		windows.CloseHandle(handle)
		return nil, gone
	}
	if event, err := windows.WaitForSingleObject(handle, 0); err == nil && event == windows.WAIT_OBJECT_0 {
		exit := exitCode(handle)
		gone.Exit = &exit
		windows.CloseHandle(handle)
		return nil, gone
	}
	p := &process{host: h, incarnation: incarnation, id: id, handle: handle}
	p.job, _ = openJob(incarnation)
	return h.watch(p), nil
}

func (h *host) Find(incarnation string) (Process, error) {
	if p := h.known(incarnation); p != nil {
		return p, nil
	}
	job, ok := openJob(incarnation)
	if !ok {
		return nil, ErrNotFound
	}
	defer windows.CloseHandle(job)
	var first Identity
	for _, pid := range jobPIDs(job) {
		handle, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
		if err != nil {
			continue
		}
		if t := creationTime(handle); t != 0 && (first.PID == 0 || t < first.StartTime) {
			first = Identity{BootID: h.BootID(), PID: int(pid), StartTime: t}
		}
		windows.CloseHandle(handle)
	}
	if first.PID == 0 {
		return nil, ErrNotFound
	}
	return h.Adopt(first, incarnation)
}

func (h *host) EndLeftovers(incarnation string, _ Identity) (int, error) {
	job, ok := openJob(incarnation)
	if !ok {
		return 0, nil
	}
	defer windows.CloseHandle(job)
	n := len(jobPIDs(job))
	return n, windows.TerminateJobObject(job, killedCode)
}

// Survivors finds nothing: a job is found by its name alone.
func (h *host) Survivors(Search) ([]Survivor, error) { return nil, nil }

func (h *host) Close() error {
	h.mu.Lock()
	var all []*process
	for _, p := range h.procs {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		p.Release()
	}
	return h.null.Close()
}

type process struct {
	host        *host
	id          Identity
	incarnation string
	handle      windows.Handle
	job         windows.Handle // 0 if it could not be opened

	notices
}

func (p *process) Identity() Identity  { return p.id }
func (p *process) Incarnation() string { return p.incarnation }

// killedCode is the exit code of what was terminated here: no program's own.
const killedCode = 0x5ca1ab1e

// wait costs a thread for each process.
func (p *process) wait() {
	if _, err := windows.WaitForSingleObject(p.handle, windows.INFINITE); err != nil {
		return
	}
	p.mu.Lock()
	if p.released {
		p.closeLocked()
		p.mu.Unlock()
		return
	}
	p.exited, p.exit = true, exitCode(p.handle)
	p.mu.Unlock()
	p.settle()
}

func exitCode(h windows.Handle) Exit {
	var code uint32
	if windows.GetExitCodeProcess(h, &code) != nil {
		return Exit{}
	}
	if code == killedCode {
		return Exit{Known: true, Signal: "SIGKILL"}
	}
	return Exit{Known: true, Code: int(int32(code))}
}

// Signal knows SIGKILL, and sends a CTRL_BREAK for every other: that is how a
// console program is asked to end.
func (p *process) Signal(sig string, _ spec.KillMode) error {
	n, err := ParseSignal(sig)
	if err != nil {
		return err
	}
	if p.isExited() {
		return ErrDead
	}
	if n == syscall.SIGKILL {
		return p.Kill()
	}
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.id.PID))
}

func (p *process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return nil
	}
	if p.job != 0 {
		return windows.TerminateJobObject(p.job, killedCode)
	}
	if p.exited {
		return nil
	}
	return windows.TerminateProcess(p.handle, killedCode)
}

func (p *process) Empty() bool { return p.isExited() && p.jobEmpty() }

func (p *process) jobEmpty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.released || p.job == 0 || len(jobPIDs(p.job)) == 0
}

// emptyInterval is how often a job is looked at whose first process has ended
// while others go on.
const emptyInterval = 100 * time.Millisecond

func (p *process) awaitEmpty() {
	if p.jobEmpty() {
		p.gone()
		return
	}
	time.AfterFunc(emptyInterval, p.awaitEmpty)
}

// jobPIDs lists up to 1,024 processes of a job.
func jobPIDs(job windows.Handle) []uintptr {
	var list struct {
		Assigned, InList uint32
		PIDs             [1024]uintptr
	}
	err := windows.QueryInformationJobObject(job, windows.JobObjectBasicProcessIdList,
		uintptr(unsafe.Pointer(&list)), uint32(unsafe.Sizeof(list)), nil)
	if err != nil && err != windows.ERROR_MORE_DATA {
		return nil
	}
	return list.PIDs[:min(int(list.InList), len(list.PIDs))]
}

func (p *process) Release() {
	p.mu.Lock()
	if p.released {
		p.mu.Unlock()
		return
	}
	p.released = true
	p.onExit, p.onEmpty = nil, nil
	if p.exited {
		p.closeLocked() // else wait does, when it has no more use of the handle
	}
	p.mu.Unlock()
	p.host.mu.Lock()
	if p.host.procs[p.incarnation] == p {
		delete(p.host.procs, p.incarnation)
	}
	p.host.mu.Unlock()
}

func (p *process) closeLocked() {
	windows.CloseHandle(p.handle)
	if p.job != 0 {
		windows.CloseHandle(p.job)
	}
}

// LookupAccount refuses every account: a daemon runs as its manager here.
func LookupAccount(s string) (*Account, error) {
	if s == "" {
		return nil, nil
	}
	return nil, startError(StageUser, nil, "user is not supported on Windows")
}

// ParseSignal knows the names that mean something here.
func ParseSignal(name string) (syscall.Signal, error) {
	s := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "SIG")
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 32 {
		return syscall.Signal(n), nil
	}
	switch s {
	case "KILL":
		return syscall.SIGKILL, nil
	case "TERM":
		return syscall.SIGTERM, nil
	case "INT":
		return syscall.SIGINT, nil
	case "HUP":
		return syscall.SIGHUP, nil
	case "QUIT":
		return syscall.SIGQUIT, nil
	}
	return 0, fmt.Errorf("no such signal on Windows: %s", name)
}
