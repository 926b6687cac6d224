package persist

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/cyber-boost/syspulse/persist/journalpb"
	"github.com/cyber-boost/syspulse/supervision"
)

// fill sets every field that v has, at any depth, to something that is not
// zero, so that a field that the codec forgets is seen.
func fill(t *rapid.T, v reflect.Value, path string) {
	switch v.Interface().(type) {
	case time.Time:
		sec := rapid.Int64Range(-1<<36, 1<<36).Draw(t, path)
		nsec := rapid.Int64Range(0, 999_999_999).Draw(t, path)
		v.Set(reflect.ValueOf(time.Unix(sec, nsec).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(1, 3).Draw(t, path), 3))
		for i := range v.Len() {
			fill(t, v.Index(i), fmt.Sprint(path, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range rapid.IntRange(1, 3).Draw(t, path) {
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, fmt.Sprint(path, "key", i))
			fill(t, val, fmt.Sprint(path, "val", i))
			v.SetMapIndex(key, val)
		}
	case reflect.String:
		v.SetString(rapid.StringN(1, 20, -1).Draw(t, path))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		n := rapid.Int64Range(-1<<53, 1<<53).Draw(t, path)
		v.SetInt(n | 1)
	case reflect.Uint64, reflect.Uint32:
		v.SetUint(rapid.Uint64Range(1, 1<<63).Draw(t, path))
	case reflect.Float64:
		v.SetFloat(float64(rapid.Int64Range(1, 1<<40).Draw(t, path)) / 4)
	default:
		t.Fatalf("%s: the test can't fill a %s", path, v.Type())
	}
}

// roundTrip takes an event through the bytes of the journal.
func roundTrip(t interface{ Fatal(...any) }, ev *supervision.Event) supervision.Event {
	p, err := eventToPB(ev)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	q, err := decode(b, new(journalpb.Event))
	if err != nil {
		t.Fatal(err)
	}
	out, err := eventFromPB(q)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNoFieldIsForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ev supervision.Event
		fill(t, reflect.ValueOf(&ev).Elem(), "event")
		if got := roundTrip(t, &ev); !reflect.DeepEqual(got, ev) {
			t.Fatalf("\n got %+v %+v %+v %+v\nwant %+v %+v %+v %+v",
				got, got.Record, got.Spec, got.Spec.Spec, ev, ev.Record, ev.Spec, ev.Spec.Spec)
		}
	})
}

func TestZeroStaysZero(t *testing.T) {
	for _, ev := range []supervision.Event{
		{},
		{Record: &supervision.Record{}},
		{Record: &supervision.Record{LastExit: supervision.Exit{Known: true}, Exited: true}},
		{Spec: &supervision.Registration{}},
		{Detail: "no UTF-8: \xff\x00", Record: &supervision.Record{Reason: "\xfe"}},
	} {
		if got := roundTrip(t, &ev); !reflect.DeepEqual(got, ev) {
			t.Errorf("got %+v, want %+v", got, ev)
		}
	}
}

// A later build of the same format may have words and fields that this one
// does not know.
func TestUnknownWordsAreKept(t *testing.T) {
	p := &journalpb.Event{Schema: 99, Kind: "hibernated", Record: &journalpb.Record{State: "frozen", Health: "splendid"}}
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0xfa, 0x3f, 3, 'n', 'e', 'w') // field 1023
	q, err := decode(b, new(journalpb.Event))
	if err != nil {
		t.Fatal(err)
	}
	ev, err := eventFromPB(q)
	if err != nil || ev.Kind != "hibernated" || ev.Record.State != "frozen" || ev.Record.Health != "splendid" {
		t.Errorf("got %+v, %v", ev, err)
	}
}

func TestEventKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := eventKey{
			seq:      rapid.Uint64().Draw(t, "seq"),
			nanos:    rapid.Int64().Draw(t, "nanos"),
			daemon:   daemonID(rapid.Uint32().Draw(t, "daemon")),
			contents: contents(rapid.Byte().Draw(t, "contents")),
		}
		if got, ok := parseEventKey(k.append(nil)); !ok || got != k {
			t.Fatalf("got %+v, want %+v", got, k)
		}
	})
}
