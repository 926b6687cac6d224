package cli

// signalNumber knows what Windows can end a process by.
func signalNumber(name string) int {
	return map[string]int{"SIGINT": 2, "SIGKILL": 9, "SIGTERM": 15}[name]
}
