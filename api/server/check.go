package server

import (
	"fmt"

	"github.com/cyber-boost/syspulse/api"
)

// checkRegistrations refuses what no .sys file could have said.
func checkRegistrations(regs []api.Registration) error {
	var problems []string
	for i, reg := range regs {
		if reg.Spec == nil {
			problems = append(problems, fmt.Sprintf("daemons[%d]: spec is missing", i))
		}
	}
	if len(problems) > 0 {
		return api.Invalid(problems[0], problems...)
	}
	return nil
}
