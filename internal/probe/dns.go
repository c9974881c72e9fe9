package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/miekg/dns"
)

const (
	resolvConf = "/etc/resolv.conf"
	// maxAnswers and maxAnswer bound what is told of a server's answers: how many, and bytes of each.
	maxAnswers, maxAnswer = 20, 512
	// udpSize is what gets through everywhere without being cut into fragments.
	udpSize = 1232
)

// dnsTypes are the types that can be asked for.
var dnsTypes = map[string]uint16{
	"A": dns.TypeA, "AAAA": dns.TypeAAAA, "CAA": dns.TypeCAA, "CNAME": dns.TypeCNAME, "MX": dns.TypeMX, "NS": dns.TypeNS,
	"PTR": dns.TypePTR, "SOA": dns.TypeSOA, "SRV": dns.TypeSRV, "TXT": dns.TypeTXT,
}

type dnsOptions struct {
	Target        string   `json:"target"`
	Server        string   `json:"server"`
	Type          string   `json:"type"`
	Expect        []string `json:"expect"`
	Rcode         string   `json:"rcode"`
	TCP           bool     `json:"tcp"`
	Recursion     bool     `json:"recursion"`
	Authenticated bool     `json:"authenticated"`

	name    string   // the target as it is asked for
	servers []string // host:port; empty is the system's
}

type dnsMessage struct {
	Server        string   `json:"server"`
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Rcode         string   `json:"rcode"`
	Answers       []string `json:"answers"` // at most 20 of the type
	Count         int      `json:"count"`   // how many there are
	Authoritative bool     `json:"authoritative"`
	Authenticated bool     `json:"authenticated"`
	TCP           bool     `json:"tcp"`
	ResponseTime  int64    `json:"response_time"` // ns
	Error         string   `json:"error,omitempty"`
}

// dnsFailure is told of servers that did not answer.
type dnsFailure struct {
	Error  string `json:"error"`
	Server string `json:"server"` // the last that was asked
}

var errOtherQuestion = errors.New("it answered another question than what was asked")

func parseDNS(details string) (dnsOptions, error) {
	o := dnsOptions{Type: "A", Rcode: "NOERROR", Recursion: true}
	if err := parse(details, &o.Target, &o); err != nil {
		return o, err
	}
	o.Type, o.Rcode = strings.ToUpper(o.Type), strings.ToUpper(o.Rcode)
	if _, known := dnsTypes[o.Type]; !known {
		return o, fmt.Errorf("type is %q: use %s", o.Type, strings.Join(slices.Sorted(maps.Keys(dnsTypes)), ", "))
	}
	if _, known := dns.StringToRcode[o.Rcode]; !known {
		return o, fmt.Errorf("rcode is %q: use NOERROR, NXDOMAIN, REFUSED, SERVFAIL or another by its name", o.Rcode)
	}
	if len(o.Expect) > 0 && o.Rcode != dns.RcodeToString[dns.RcodeSuccess] {
		return o, fmt.Errorf("expect has answers, but with rcode %s there are none: leave one of them out", o.Rcode)
	}
	o.name = dns.Fqdn(o.Target)
	if _, err := netip.ParseAddr(o.Target); err == nil && o.Type == "PTR" {
		o.name, _ = dns.ReverseAddr(o.Target)
	}
	if strings.IndexFunc(o.name, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		return o, fmt.Errorf("target %q: a name in DNS is ASCII: write it as xn--…", o.Target)
	}
	// Some of these the DNS library escapes in what it reads: an answer would seem to be one to another question.
	odd := strings.ContainsAny(o.name, `/:@\ ;()"'`) || strings.ContainsFunc(o.name, unicode.IsControl)
	if _, ok := dns.IsDomainName(o.name); !ok || o.Target == "" || odd {
		return o, fmt.Errorf("target %q: it is no name: write host.example, or an address where type is PTR", o.Target)
	}
	if o.Server == "" {
		return o, nil
	}
	server := Target{Details: o.Server}
	if _, _, err := net.SplitHostPort(o.Server); err != nil {
		server.Port = 53
	}
	host, port, err := hostPort(server)
	if err != nil {
		return o, fmt.Errorf("server: %w", err)
	}
	o.servers = []string{net.JoinHostPort(host, strconv.Itoa(int(port)))}
	return o, nil
}

// DNS asks for the name in Details, as it is: the system's search list is not tried. It asks the server of the options,
// else the system's in their order, each twice, and takes the first answer that comes, whatever it says. Available is
// the rcode that is expected; with NOERROR at least one answer of the type, and all that are expected, have to be there.
func DNS(ctx context.Context, target Target) (Result, error) {
	o, err := parseDNS(target.Details)
	if err == nil && len(o.servers) == 0 {
		o.servers, err = systemResolvers(resolvConf)
	}
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	response, server, err := o.ask(ctx)
	took := time.Since(began)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Result{}, fmt.Errorf("ask for %s of %s: %w", o.Type, o.Target, ctx.Err())
	case err != nil:
		return result(false, took, dnsFailure{fmt.Sprintf("%s %s: the server %s: %s", o.Type, o.Target, server, explainDNS(err, took)), server})
	}
	m := dnsMessage{
		Server: server, Name: o.Target, Type: o.Type, Rcode: rcodeText(response.Rcode),
		Authoritative: response.Authoritative, Authenticated: response.AuthenticatedData, TCP: response.overTCP,
		ResponseTime: response.took.Nanoseconds(),
	}
	answers := o.answers(response.Msg)
	m.Count, m.Answers = len(answers), bounded(answers)
	if why := o.judge(response.Msg, answers); why != "" {
		m.Error = fmt.Sprintf("%s %s: the server %s %s", o.Type, o.Target, server, why)
	}
	return result(m.Error == "", response.took, m)
}

// systemResolvers reads this machine's.
func systemResolvers(file string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil, fmt.Errorf(`this machine's resolvers can't be read: %w: name one as "server"`, err)
	}
	if len(config.Servers) == 0 {
		return nil, fmt.Errorf(`%s names no resolver: name one as "server"`, file)
	}
	var servers []string
	for _, host := range config.Servers {
		servers = append(servers, net.JoinHostPort(host, config.Port))
	}
	return servers, nil
}

// dnsResponse is a server's answer.
type dnsResponse struct {
	*dns.Msg
	overTCP bool
	took    time.Duration // from the question, or from the first of two if the first answer was cut off
}

// ask returns the first answer, or the last error, and whose it is. The time that there is is shared out evenly among
// the attempts, for the question or its answer may be lost on the way.
func (o dnsOptions) ask(ctx context.Context) (response dnsResponse, server string, err error) {
	const rounds = 2
	attempts := rounds * len(o.servers)
	for i := range attempts {
		server = o.servers[i%len(o.servers)]
		response, err = o.askOnce(ctx, server, attempts-i)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return response, server, err
}

// askOnce takes at most its part of the time that there is.
func (o dnsOptions) askOnce(ctx context.Context, server string, part int) (dnsResponse, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(part))
		defer cancel()
	}
	began := time.Now()
	overTCP := o.TCP
	message, err := o.exchange(ctx, server, overTCP)
	if err == nil && message.Truncated && !overTCP {
		overTCP = true
		message, err = o.exchange(ctx, server, overTCP)
	}
	return dnsResponse{message, overTCP, time.Since(began)}, err
}

func (o dnsOptions) exchange(ctx context.Context, server string, overTCP bool) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(o.name, dnsTypes[o.Type])
	question.RecursionDesired = o.Recursion
	question.AuthenticatedData = o.Authenticated // tells the server that the flag is of interest
	question.SetEdns0(udpSize, false)
	network := "udp"
	if overTCP {
		network = "tcp"
	}
	// The client's own timeouts would be 2 s; the context has the one that counts.
	client := dns.Client{Net: network, Timeout: time.Hour}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, question, conn)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case len(answer.Question) != 1 || answer.Question[0].Qtype != dnsTypes[o.Type] || !strings.EqualFold(answer.Question[0].Name, o.name):
		return nil, errOtherQuestion
	}
	return answer, nil
}

// answers are those of the type, as text. What leads to them, such as an alias, is not among them.
func (o dnsOptions) answers(response *dns.Msg) []string {
	var answers []string
	for _, record := range response.Answer {
		if record.Header().Rrtype != dnsTypes[o.Type] {
			continue
		}
		text := strings.TrimPrefix(record.String(), record.Header().String())
		if txt, ok := record.(*dns.TXT); ok {
			text = unescape(strings.Join(txt.Txt, "")) // the pieces are of the format, not of the text
		}
		answers = append(answers, text)
	}
	return answers
}

// unescape undoes what the DNS library does to texts, which it has as zone files show them: \" and \195.
func unescape(presented string) string {
	var text []byte
	for rest := presented; rest != ""; {
		after, escaped := strings.CutPrefix(rest, `\`)
		if !escaped || after == "" {
			text, rest = append(text, rest[0]), rest[1:]
			continue
		}
		const digits = 3
		if number, err := strconv.ParseUint(after[:min(len(after), digits)], 10, 8); err == nil && len(after) >= digits {
			text, rest = append(text, byte(number)), after[digits:]
			continue
		}
		text, rest = append(text, after[0]), after[1:]
	}
	return string(text)
}

// judge says what is wrong with a response; empty is nothing.
func (o dnsOptions) judge(response *dns.Msg, answers []string) string {
	if response.Rcode != dns.StringToRcode[o.Rcode] {
		return fmt.Sprintf("answered %s instead of %s%s", rcodeText(response.Rcode), o.Rcode, rcodeHints[response.Rcode])
	}
	if o.Authenticated && !response.AuthenticatedData {
		return "did not validate its answer: is the zone signed, and does the server validate?"
	}
	if response.Rcode != dns.RcodeSuccess {
		return ""
	}
	if len(answers) == 0 {
		return fmt.Sprintf("knows the name, but has no %s of it", o.Type)
	}
	for _, want := range o.Expect {
		if !slices.ContainsFunc(answers, func(got string) bool { return o.same(want, got) }) {
			return fmt.Sprintf("did not answer %q, but %s", want, strings.Join(bounded(answers), ", "))
		}
	}
	return ""
}

// same tells whether two answers are: addresses however they are written, names whatever their case, with or without
// the dot at their end, and texts to the letter.
func (o dnsOptions) same(a, b string) bool {
	if o.Type == "TXT" {
		return a == b
	}
	if x, err := netip.ParseAddr(a); err == nil {
		y, err := netip.ParseAddr(b)
		return err == nil && x == y
	}
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

var rcodeHints = map[int]string{
	dns.RcodeSuccess:        ": the name exists",
	dns.RcodeFormatError:    ": it does not understand the question",
	dns.RcodeServerFailure:  ": it got no answer that it trusts: look at the servers that it asks, and at DNSSEC",
	dns.RcodeNameError:      ": there is no such name",
	dns.RcodeNotImplemented: ": it does not know what to do with the question",
	dns.RcodeRefused:        ": it does not answer this machine, or not for this name",
}

// bounded is as much of answers as is told.
func bounded(answers []string) []string {
	told := []string{}
	for _, answer := range answers[:min(len(answers), maxAnswers)] {
		told = append(told, excerpt(answer, maxAnswer))
	}
	return told
}

func rcodeText(rcode int) string {
	if text, known := dns.RcodeToString[rcode]; known {
		return text
	}
	return fmt.Sprintf("rcode %d", rcode)
}

func explainDNS(err error, took time.Duration) string {
	if _, ok := errors.AsType[*dns.Error](err); ok {
		return "its answer can't be read: " + strings.TrimPrefix(err.Error(), "dns: ") + ": does it speak DNS?"
	}
	return explain(err, took)
}
