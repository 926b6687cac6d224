package persist

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/cyber-boost/syspulse/spec"
	"github.com/cyber-boost/syspulse/supervision"
)

var checks = Checks{Daemon: spec.DecodeDaemon, Group: spec.DecodeGroup}

func TestExportAndImport(t *testing.T) {
	daemons := []Daemon{
		{Name: "web", Registration: registration("web"), Record: supervision.Record{Wanted: supervision.WantRunning}},
		{Name: "db", Registration: registration("db"), Record: supervision.Record{Wanted: supervision.WantStopped, Ended: true}},
		{Name: "lost"},
	}
	doc := NewDocument("1.2.3", epoch, daemons, []spec.Group{{Name: "all", Strategy: "one_for_all"}})
	var buf bytes.Buffer
	if err := doc.Export(&buf); err != nil {
		t.Fatal(err)
	}
	text := buf.String()
	got, err := Import(&buf, checks)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, doc) {
		t.Errorf("got %+v, want %+v\n%s", got, doc, text)
	}
	if len(got.Daemons) != 2 || got.Daemons[0].Spec.Name != "db" || !got.Daemons[0].Ended {
		t.Errorf("got %+v", got.Daemons)
	}
}

func TestImportSaysWhatIsWrong(t *testing.T) {
	const good = `{"spec":{"name":"a","command":["x"]},"wanted":"running"}`
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {``, "no export"},
		"no JSON":   {"{\n  \"format\": oops}", "line 2, column 13"},
		"array":     {`[]`, "no export"},
		"other":     {`{"a":1}`, "no \"format\""},
		"newer":     {`{"format":7,"version":"9.1","daemons":{}}`, "written by syspulse 9.1"},
		"old":       {`{"format":0}`, "never was"},
		"two":       {`{"format":1,"daemons":[]}{}`, "no export"},
		"wrong":     {`{"format":1,"daemons":{}}`, "daemons"},
		"unknown":   {`{"format":1,"demons":[]}`, `"demons"`},
		"no spec":   {`{"format":1,"daemons":[{"wanted":"running"}]}`, `daemons[0] has no "spec"`},
		"bad spec":  {`{"format":1,"daemons":[{"spec":{"name":"a/b","command":["x"]}}]}`, "daemons[0]"},
		"twice":     {`{"format":1,"daemons":[` + good + `,` + good + `]}`, "daemons[1]: \"a\" is there twice"},
		"wanted":    {`{"format":1,"daemons":[{"spec":{"name":"a","command":["x"]},"wanted":"up"}]}`, `must be "running" or "stopped"`},
		"bad group": {`{"format":1,"daemons":[],"groups":[{"name":""}]}`, "groups[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(strings.NewReader(c.text), checks)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"format":1,"version":"1","exported_at":"2030-01-01T00:00:00Z","daemons":[{"spec":{"name":"a","command":["x"]},"wanted":"running"}],"groups":[]}`))
	f.Add([]byte(`{"format":1,"daemons":[{"spec":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Import(bytes.NewReader(data), checks)
		if err != nil {
			return
		}
		var buf bytes.Buffer
		if err := doc.Export(&buf); err != nil {
			t.Fatal(err)
		}
		if _, err := Import(&buf, checks); err != nil {
			t.Errorf("what was imported can't be imported again: %v", err)
		}
	})
}

// What a stray or hostile log may hold must not take the manager down.
func FuzzLogEntry(f *testing.F) {
	f.Add([]byte{0, 0, 3, 1, 0, 'a', 'b', 'c', 'd', 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := logEntry(b); ok && n <= 4 {
			t.Errorf("an entry of %d bytes", n)
		}
	})
}
