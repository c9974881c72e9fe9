package actors

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// What is handed over arrives as it was, and by a clock that is ahead it is the same moment.
func TestHandOverOnTheWire(t *testing.T) {
	t.Parallel()
	epoch := time.Now().Add(-time.Hour)
	h := handOver{
		agent: "a", from: epoch.Add(time.Minute), since: epoch.Add(time.Second), open: true, failures: 7, cause: "it was refused",
		sequences: []check.Sequence{{Agent: "a", Check: "x", Value: "17"}}, rows: map[string]uint8{"y": 2, "z": 255},
	}
	const ahead = 3 * time.Second
	got := handOverOf(h.wire(epoch.Add(-ahead)), epoch, ahead)
	if diff := cmp.Diff(h, got, cmp.AllowUnexported(handOver{})); diff != "" {
		t.Errorf("(-sent +got):\n%s", diff)
	}
	if got := handOverOf((&handOver{agent: "a"}).wire(epoch), epoch, ahead); !got.from.IsZero() || !got.since.IsZero() {
		t.Errorf("what is not known became %+v", got)
	}
}

// What is moved arrives as it was.
func TestPinsOnTheWire(t *testing.T) {
	t.Parallel()
	id := machine.NodeID{Name: "n", Boot: "1"}
	pins := machine.NewPins()
	for agent, node := range map[string]string{"x": "n", "y": "m", "z": ""} {
		if err := pins.Set([]string{agent}, node, int64(len(node))+3); err != nil {
			t.Fatal(err)
		}
	}
	body, err := open(seal(kindPins, wirePins(id, pins)))
	got, ok := body.(*cluster.Pins)
	if err != nil || !ok {
		t.Fatalf("a %T, %v", body, err)
	}
	if diff := cmp.Diff(pins.All(), pinsOf(got)); diff != "" || idOf(got.GetFrom()) != id {
		t.Errorf("from %v (-sent +got):\n%s", got.GetFrom(), diff)
	}
}

// What a node of another version sends is nothing, and no error.
func TestOpenUnknown(t *testing.T) {
	t.Parallel()
	for _, e := range []*cluster.Envelope{{}, {Kind: kindAsk}, {Kind: kindAsk, Version: 2, Body: []byte{0xff}}, {Kind: 99, Version: 1, Body: []byte{0xff}}} {
		if body, err := open(e); body != nil || err != nil {
			t.Errorf("%v is a %T, %v", e, body, err)
		}
	}
	if _, err := open(&cluster.Envelope{Kind: kindAsk, Version: 1, Body: []byte{0xff}}); err == nil {
		t.Error("garbage was read")
	}
}

// Whatever another node sends can be opened, or is an error; and what it hands over is of use.
func FuzzEnvelope(f *testing.F) {
	id := machine.NodeID{Name: "n", Boot: "1"}
	h := handOver{agent: "a", from: time.Now(), rows: map[string]uint8{"x": 3}}
	epoch := time.Now()
	for _, e := range []*cluster.Envelope{
		seal(kindAsk, &cluster.Ask{From: nodeOf(id), Era: 1, Round: 2, Agents: []string{"a", "b"}, Taken: []string{"c"}}),
		seal(kindAnswer, &cluster.Answer{From: nodeOf(id), Free: []string{"a"}, Given: []*cluster.HandOver{h.wire(epoch)}}),
		seal(kindNames, &cluster.Names{From: nodeOf(id), Hash: "h", Agents: []string{"a"}}),
		seal(kindOrder, &cluster.Order{From: nodeOf(id), Id: 3, What: OrderDrain}),
		seal(kindPins, &cluster.Pins{From: nodeOf(id), Pins: []*cluster.Pin{{Agent: "a", Node: "n", Stamp: 4}}}),
	} {
		text, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e := new(cluster.Envelope)
		if proto.Unmarshal(text, e) != nil {
			return
		}
		body, err := open(e)
		if pins, ok := body.(*cluster.Pins); ok && err == nil {
			ours := machine.NewPins()
			ours.Merge(pinsOf(pins))
			if changed := ours.Merge(pinsOf(wirePins(id, ours))); len(changed) > 0 {
				t.Errorf("%v is not what it was when it comes back: %v", pins, changed)
			}
		}
		answer, ok := body.(*cluster.Answer)
		if err != nil || !ok {
			return
		}
		for _, w := range answer.GetGiven() {
			h := handOverOf(w, epoch, time.Hour)
			if h.agent != w.GetAgent() || len(h.sequences) != len(w.GetSequences()) || h.failures < 0 {
				t.Errorf("%v became %+v", w, h)
			}
			_ = h.wire(epoch)
		}
	})
}

// A checker may say what is no text, and that must not keep its agent from being handed over.
func TestHandOverOfWhatIsNoText(t *testing.T) {
	t.Parallel()
	epoch := time.Unix(0, 0)
	h := handOver{agent: "a", open: true, failures: 5, cause: "refused: \xff\xfe"}
	body, err := open(seal(kindAnswer, &cluster.Answer{Given: []*cluster.HandOver{h.wire(epoch)}}))
	if err != nil {
		t.Fatal(err)
	}
	got := handOverOf(body.(*cluster.Answer).GetGiven()[0], epoch, 0)
	if want := "refused: \uFFFD"; got.cause != want || !got.open || got.failures != 5 {
		t.Errorf("%+v comes as %+v, want the cause %q", h, got, want)
	}
}
