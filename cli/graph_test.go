package cli

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/api"
	"github.com/cyber-boost/syspulse/supervision"
)

// node is a registered daemon of a graph; a dependency with a ! in front of it
// isn't met, one with a ? isn't registered.
func node(step int, name string, state supervision.State, group string, needs ...string) api.GraphDaemon {
	d := api.GraphDaemon{Name: name, Step: step, Registered: true, State: &state, Wanted: new(supervision.WantRunning), DependsOn: []api.GraphDependency{}}
	if group != "" {
		d.Group = &group
	}
	for _, n := range needs {
		dep := api.GraphDependency{Name: strings.TrimLeft(n, "!?"), Registered: n[0] != '?', Met: n[0] != '!' && n[0] != '?'}
		if dep.Registered {
			dep.Condition = new("healthy")
		}
		if n[0] == '!' && state == supervision.Starting {
			d.WaitingFor = append(d.WaitingFor, dep.Name)
		}
		d.DependsOn = append(d.DependsOn, dep)
	}
	return d
}

func TestGraphTable(t *testing.T) {
	missing := api.GraphDaemon{Name: "gone", Step: 1}
	for _, c := range []struct {
		name string
		in   []api.GraphDaemon
		want string
	}{
		{"one", []api.GraphDaemon{node(1, "a", supervision.Running, "")}, `
STEP  NAME  STATE    DEPENDS ON
1     a     running  -
`},
		{"diamond", []api.GraphDaemon{
			node(1, "a", supervision.Running, ""),
			node(2, "b", supervision.Running, "", "a"),
			node(2, "c", supervision.Starting, "", "a"),
			node(3, "d", supervision.Starting, "", "b", "!c"),
		}, `
STEP  NAME  STATE     DEPENDS ON
1     a     running   -
2     b     running   a (healthy)
2     c     starting  a (healthy)
3     d     starting  b (healthy), c (healthy, not yet)
`},
		{"missing, with a group and wide letters", []api.GraphDaemon{
			missing,
			node(2, "データ", supervision.Stopped, "g", "?gone"),
			node(2, "b", supervision.Stopped, "", "!データ", "?elsewhere"),
		}, `
STEP  NAME    STATE           GROUP  DEPENDS ON
1     gone    not registered  -      -
2     データ  stopped         g      gone (not registered)
2     b       stopped         -      データ (healthy), elsewhere (not registered)
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out buffer
			a := &app{stdout: &out, stderr: &out}
			a.graphTable(api.Graph{Daemons: c.in})
			if got := "\n" + out.String(); got != c.want {
				t.Errorf("got:%s\nwant:%s", got, c.want)
			}
		})
	}
}

func TestColorsOfTheGraphSayWhatIsNotAsItShouldBe(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	var out buffer
	a := &app{stdout: &out, stderr: &out, outTTY: true}
	a.graphTable(api.Graph{Daemons: []api.GraphDaemon{
		node(1, "a", supervision.Starting, ""),
		node(2, "b", supervision.Starting, "", "!a"),
		node(2, "c", supervision.Stopped, "", "!a"),
		node(2, "d", supervision.Starting, "", "?gone", "!a"),
	}})
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{"", "\x1b[2m-", "\x1b[33ma (healthy, not yet)", "  a (healthy)", "\x1b[31mgone (not registered), a (healthy, not yet)"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %q, want %q in it", i, lines[i], want)
		}
	}
	if !strings.HasPrefix(lines[2], "\x1b[1m2\x1b[0m") || !strings.HasPrefix(lines[3], "\x1b[2m2\x1b[0m") {
		t.Errorf("a step doesn't stand out where it begins: %q, %q", lines[2], lines[3])
	}
}

func TestDot(t *testing.T) {
	const want = `digraph syspulse {
	rankdir=RL
	node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"]
	edge [fontname="sans-serif", fontsize=10]
	"gone" [label="gone\nnot registered", style=dashed, color=red]
	"b" [label="b\nstarting", fillcolor=khaki]
	subgraph "cluster_my.group" {
		label="my.group"
		"a-1" [label="a-1\nrunning", fillcolor=palegreen]
	}
	"b" -> "a-1" [label="healthy", style=dashed]
	"b" -> "gone" [style=dashed]
	"outside" [style=dotted]
	"b" -> "outside" [label="healthy"]
}
`
	got := dotGraph(api.Graph{Daemons: []api.GraphDaemon{
		{Name: "gone", Step: 1}, node(1, "a-1", supervision.Running, "my.group"),
		node(2, "b", supervision.Starting, "", "!a-1", "?gone", "outside"),
	}})
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}

	for in, want := range map[string]string{
		"graph": `"graph"`, "1.5": `"1.5"`, "日本": `"日本"`, `say "x"`: `"say \"x\""`, `c:\new\`: `"c:\\new\\"`, "a\nb": `"a\\nb"`, "<b>": `"<b>"`,
	} {
		if got := quoted(in); got != want {
			t.Errorf("%q is quoted as %s, want %s", in, got, want)
		}
	}
}

// Whatever a name is, Graphviz reads the same name.
func TestGraphvizReadsDot(t *testing.T) {
	dot, err := exec.LookPath("dot")
	if err != nil {
		t.Skip("needs Graphviz")
	}
	odd := []string{"graph", "node", "subgraph", "strict", "1.5", "-3", "日本", `say "x"`, `c:\new\`, `\N`, "<b>", "a->b", "x;y", "cluster_g", "a:n", "#", "//", "é.ü"}
	var g api.Graph
	for i, name := range odd {
		g.Daemons = append(g.Daemons, node(i+1, name, supervision.Running, fmt.Sprintf("group %q", name), odd[max(i-1, 0):i]...))
	}
	cmd := exec.Command(dot, "-Tplain")
	cmd.Stdin = strings.NewReader(dotGraph(g))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := "\n" + string(out)
	if nodes, edges, n := strings.Count(text, "\nnode "), strings.Count(text, "\nedge "), len(odd); nodes != n || edges != n-1 || strings.Contains(text, "Warning") {
		t.Errorf("%d nodes and %d edges of %d:%s", nodes, edges, n, text)
	}
}

func TestGraphCommand(t *testing.T) {
	s := newShell(t)
	s.want(0, "no daemons are registered", "", "graph")
	s.want(0, `{"daemons":[],"groups":[]}`, "", "graph", "--json")
	s.add("web", "db")
	s.want(0, "1     db    stopped  -\n", "", "graph", "web")
	s.want(4, "", "no daemon is called", "graph", "nobody")
	s.want(2, "", "give one of them", "graph", "--dot", "--json")
	s.want(0, `"web" [label="web\nstopped", fillcolor=gray90]`, "", "graph", "--dot")
	s.want(0, "web\tstopped\n", "NoFileComp", "__complete", "graph", "db", "")
}
