package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

//go:generate go test -run TestReference -update .

var update = flag.Bool("update", false, "write docs/CLI.md anew")

func TestReferenceIsOfTheseCommands(t *testing.T) {
	path := filepath.Join("..", "docs", "CLI.md")
	want := reference()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != want {
		t.Error("docs/CLI.md is stale; run `go generate ./cli`")
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, c := range visible(new(app).root()) {
		if c.Example == "" || c.Short == "" {
			t.Errorf("%s: no example, or no short text", c.CommandPath())
		}
		for _, r := range flagRows(c.LocalNonPersistentFlags()) {
			if r[1] == "" {
				t.Errorf("%s %s: no help", c.CommandPath(), r[0])
			}
		}
	}
}

// visible are the commands below root, in their order.
func visible(root *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	for _, g := range commandGroups(root) {
		for _, c := range g.commands {
			out = append(out, c)
			out = append(out, visible(c)...)
		}
	}
	return out
}

const referenceHead = `<!-- Made from the commands by "go generate ./cli". Change those. -->

# Command line

%s

Flags may stand before or after the command and its arguments.

On a terminal, a command that takes longer than half a second shows on standard error
how far it has come and whom it waits for, in one line that is gone in the end. It doesn't
with ` + "`--quiet` or `--json`" + `.

## Global flags

%s
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | it failed; of several, some |
| 2 | wrong usage, or a bad file |
| 3 | no manager is running |
| 4 | no such daemon, and nothing else went wrong |
| 5 | a ` + "`--wait`" + ` timed out |

` + "`up --exit-with NAME`" + ` has the exit code of that daemon.

## JSON

With ` + "`--json`" + ` a command prints one JSON document on standard output and nothing else
there; ` + "`logs`, `history`, `events` and `up`" + ` print one per line. Errors are JSON on
standard error: ` + "`{\"error\": {\"code\", \"message\", \"exit_code\", …}}`" + `. Actions print an
array of ` + "`{\"name\", \"ok\", \"state\", \"error\"}`" + `.

`

func reference() string {
	root := new(app).root()
	var b strings.Builder
	intro, _, _ := strings.Cut(rootLong, "\n\n")
	fmt.Fprintf(&b, referenceHead, intro, flagTable(flagRows(root.PersistentFlags())))
	for _, g := range commandGroups(root) {
		fmt.Fprintf(&b, "## %s\n\n", strings.TrimSuffix(g.title, ":"))
		for _, c := range g.commands {
			section(&b, c, "###")
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func section(b *strings.Builder, c *cobra.Command, level string) {
	fmt.Fprintf(b, "%s %s\n\n```\n%s\n```\n\n", level, c.CommandPath(), useLine(c))
	if strings.Contains(about(c), "  ") { // set out in columns
		first, rest, _ := strings.Cut(about(c), "\n\n")
		fmt.Fprintf(b, "%s\n\n", first)
		if rest != "" {
			fmt.Fprintf(b, "```\n%s\n```\n\n", rest)
		}
	} else {
		fmt.Fprintf(b, "%s\n\n", about(c))
	}
	if rows := flagRows(c.LocalNonPersistentFlags()); len(rows) > 0 {
		b.WriteString(flagTable(rows) + "\n")
	}
	var example []string
	for line := range strings.SplitSeq(c.Example, "\n") {
		example = append(example, strings.TrimPrefix(line, "  "))
	}
	fmt.Fprintf(b, "```sh\n%s\n```\n\n", strings.Join(example, "\n"))
	for _, sub := range commandGroups(c) {
		for _, c := range sub.commands {
			section(b, c, level+"#")
		}
	}
}

func flagTable(rows [][2]string) string {
	var b strings.Builder
	b.WriteString("| flag | meaning |\n|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(strings.TrimSpace(r[0]), "|", `\|`), strings.ReplaceAll(r[1], "|", `\|`))
	}
	return b.String()
}
