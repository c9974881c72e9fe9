package actors

import (
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/serviceradar/poller/internal/check"
	"github.com/serviceradar/poller/internal/machine"
	"github.com/serviceradar/poller/proto/cluster"
)

// Kinds of envelopes between members. A number that was used is never used for anything else.
const (
	kindAsk uint32 = iota + 1
	kindAnswer
	kindWantNames
	kindNames
	kindOrder
	kindObeyed
	kindPassed
	kindPins
)

// envelopeVersion is that of all kinds so far.
const envelopeVersion = 1

// seal puts a message into the only one that goes from node to node.
func seal(kind uint32, body proto.Message) *cluster.Envelope {
	text, err := proto.Marshal(body)
	if err != nil { // only texts that are no UTF-8, which no configuration has; what comes from elsewhere is made so
		panic(fmt.Sprintf("marshal a %T: %v", body, err))
	}
	return &cluster.Envelope{Kind: kind, Version: envelopeVersion, Body: text}
}

// open returns what is in an envelope; nil if it is of a kind or version that this node does not know.
func open(e *cluster.Envelope) (proto.Message, error) {
	if e.GetVersion() != envelopeVersion {
		return nil, nil
	}
	var body proto.Message
	switch e.GetKind() {
	case kindAsk:
		body = new(cluster.Ask)
	case kindAnswer:
		body = new(cluster.Answer)
	case kindWantNames:
		body = new(cluster.WantNames)
	case kindNames:
		body = new(cluster.Names)
	case kindOrder:
		body = new(cluster.Order)
	case kindObeyed:
		body = new(cluster.Obeyed)
	case kindPassed:
		body = new(cluster.Passed)
	case kindPins:
		body = new(cluster.Pins)
	default:
		return nil, nil
	}
	return body, proto.Unmarshal(e.GetBody(), body)
}

func nodeOf(id machine.NodeID) *cluster.Node { return &cluster.Node{Name: id.Name, Boot: id.Boot} }

func idOf(n *cluster.Node) machine.NodeID {
	return machine.NodeID{Name: n.GetName(), Boot: n.GetBoot()}
}

// wire returns what another node is told, whose epoch is ours.
func (h *handOver) wire(epoch time.Time) *cluster.HandOver {
	w := &cluster.HandOver{Agent: h.agent, Open: h.open, Failures: uint32(min(max(h.failures, 0), math.MaxInt32))}
	w.Cause = strings.ToValidUTF8(h.cause, "\uFFFD") // a checker may have said anything
	if !h.from.IsZero() {
		w.From = int64(h.from.Sub(epoch))
	}
	if !h.since.IsZero() {
		w.Since = int64(h.since.Sub(epoch))
	}
	for _, s := range h.sequences {
		w.Sequences = append(w.Sequences, &cluster.Sequence{Check: s.Check, Value: s.Value})
	}
	for chk, count := range h.rows {
		w.Rows = append(w.Rows, &cluster.Row{Check: chk, Count: uint32(count)})
	}
	return w
}

// handOverOf returns what another node tells, whose clock is ahead of ours by offset.
func handOverOf(w *cluster.HandOver, epoch time.Time, offset time.Duration) handOver {
	h := handOver{agent: w.GetAgent(), open: w.GetOpen(), failures: int(w.GetFailures()), cause: w.GetCause()}
	if w.GetFrom() != 0 {
		h.from = epoch.Add(time.Duration(w.GetFrom()) - offset)
	}
	if w.GetSince() != 0 {
		h.since = epoch.Add(time.Duration(w.GetSince()) - offset)
	}
	for _, s := range w.GetSequences() {
		h.sequences = append(h.sequences, check.Sequence{Agent: h.agent, Check: s.GetCheck(), Value: s.GetValue()})
	}
	for _, r := range w.GetRows() {
		if h.rows == nil {
			h.rows = make(map[string]uint8)
		}
		h.rows[r.GetCheck()] = uint8(min(r.GetCount(), math.MaxUint8))
	}
	return h
}
