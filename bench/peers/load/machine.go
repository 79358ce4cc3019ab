package main

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// machine is what a figure is a figure of.
type machine struct {
	Go, CPU string
	Cores   int
	Pinned  bool   // servers and callers were on cores of their own
	Load    string // the load averages before, of all that runs
}

func thisMachine(pinned bool) machine {
	m := machine{Go: runtime.Version(), CPU: "unknown", Pinned: pinned}
	m.Load = firstFields("/proc/loadavg", 3)
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		m.Cores = runtime.NumCPU()
		return m
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(name) {
		case "processor":
			m.Cores++
		case "model name":
			m.CPU = strings.TrimSpace(value)
		}
	}
	return m
}

func firstFields(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(n, len(fields))], " ")
}

// The cores of servers and of callers, for taskset.
const (
	serverCores = "0"
	callerCores = "1"
)

const pinnedVariable = "SEALHTTP_LOAD_PINNED"

// pin starts the program again on its own core, and reports whether it is there. Where
// there is no taskset or only one core, all share what there is.
func pin() (bool, error) {
	if os.Getenv(pinnedVariable) != "" {
		return true, nil
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		return false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	args := append([]string{taskset, "-c", callerCores, self}, os.Args[1:]...)
	return false, syscall.Exec(taskset, args, append(os.Environ(), pinnedVariable+"=1"))
}
