package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/cyber-boost/syspulse/spec"
)

// bashWords does without the package bash-completion, from which cobra's
// script takes two functions: which words the line has, and which files there
// are.
const bashWords = `declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref() {
    words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
}
declare -F _filedir >/dev/null || _filedir() {
    local IFS=$'\n' kind=-f
    [[ $1 == -d ]] && kind=-d
    compopt -o filenames
    COMPREPLY+=($(compgen "$kind" -- "$cur"))
}
`

func (a *app) cmdCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write a script that completes commands and names in a shell",
		Long: `Write a script that completes commands, flags and the names of daemons.

bash:        source <(syspulse completion bash)
             (in ~/.bashrc)
zsh:         syspulse completion zsh > "${fpath[1]}/_syspulse"
fish:        syspulse completion fish > ~/.config/fish/completions/syspulse.fish
PowerShell:  syspulse completion powershell | Out-String | Invoke-Expression`,
		Example:   "  source <(syspulse completion bash)",
		ValidArgs: shells,
		Args:      args(1, 1, "for which shell? bash, zsh, fish or powershell"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				if _, err := io.WriteString(a.stdout, bashWords); err != nil {
					return err
				}
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.stdout)
			}
			message := "there is no completion for " + args[0]
			if near := spec.Nearest(args[0], shells); near != "" {
				message += "; did you mean " + near + "?"
			}
			return &usageError{message: message, command: "completion"}
		},
	}
}
