package probe

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestHTTPOptions(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		`"method":"GTE"`:                                     `method is "GTE": use GET, HEAD, POST`,
		`"method":"HEAD","contains":"x"`:                     "the answer to HEAD has no body",
		`"method":"head","json":{"a":1}`:                     "the answer to HEAD has no body",
		`"redirects":-1`:                                     "redirects is -1: write how many to follow, 0 to 20",
		`"redirects":21`:                                     "redirects is 21",
		`"status":[200,99]`:                                  "status has 99",
		`"status":200`:                                       "status is a number: write a list",
		`"min_days":-1`:                                      "min_days is -1",
		`"matches":"("`:                                      "matches is not a regular expression (RE2)",
		`"headers":{"authorization":"Bearer hunter2"}`:       "headers has authorization: details are shown to everybody: name credentials of the checker's file",
		`"headers":{"Cookie":"hunter2"}`:                     "headers has Cookie: details are shown",
		`"headers":{"Proxy-Authorization":"hunter2"}`:        "headers has Proxy-Authorization",
		`"headers":{"Content-Length":"1"}`:                   "headers has Content-Length: leave it out",
		`"headers":{"Host":"a b"}`:                           "headers has a Host that is none",
		`"headers":{"X Y":"hunter2"}`:                        `headers has "X Y": that is not the name of a header`,
		`"headers":{"X":"hunter2\r\nCookie: a"}`:             "headers has X with characters that no header may have",
		`"headers":{"X-A":"hunter2","x-a":"hunter2"}`:        "headers has X-A twice",
		`"json":{"a":{"b":1,"b":2}}`:                         `json has "a" with a value that is not good JSON: an object has a key twice`,
		`"contians":"x"`:                                     `unknown field "contians"`,
		`"credentials":"web"`:                                `credentials "web": the checker's file has none of that name`,
		`"target":"http://u:hunter2@a/","credentials":"web"`: "there are credentials, and a user in the URL, too",
	} {
		r, err := HTTP(t.Context(), Target{Details: `{"target":"http://127.0.0.1:1/",` + options + `}`})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %s, %v; want %s", options, r.Message, err, want)
		}
	}
	o, err := parseHTTP(`{"target":"https://a.example/","method":"post","json":{"b":{"y":1.50,"x":12345678901234567890}}}`)
	if err != nil || o.Method != http.MethodPost || o.Redirects != 5 || string(o.JSON["b"]) != `{"x":12345678901234567890,"y":1.5}` {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestHider(t *testing.T) {
	t.Parallel()
	o, err := parseHTTP(`http://ann:p%40ss@a.example/?token=abc%2Bdef&n=1#fragment`)
	if err != nil {
		t.Fatal(err)
	}
	hide := o.hider(Credentials{Username: "bob", Password: `bob"<y`, Token: "t0ken-t0ken"})
	for _, text := range []string{
		"ann", "p@ss", "p%40ss", "YW5uOnBAc3M=", "abc+def", "abc%2Bdef", "token=abc%2Bdef&n=1", "fragment",
		"bob", `bob"<y`, `bob\"\u003cy`, "bob&#34;&lt;y", "bob%22%3Cy", "t0ken-t0ken", "Bearer t0ken-t0ken",
	} {
		if got := hide.Replace("(" + text + ")"); got != "([hidden])" && got != "(Bearer [hidden])" && got != "([hidden] [hidden])" {
			t.Errorf("%s: %s", text, got)
		}
	}
	if got := hide.Replace("n=1, and all else"); got != "n=1, and all else" {
		t.Errorf("what is no secret: %s", got)
	}
}

func FuzzHTTPDetails(f *testing.F) {
	for _, seed := range []string{
		"", "http://a", "https://u:p@a:1/?q#f", `{"target":"http://a","method":"POST","headers":{"X":"y","Host":"b"},"body":"z","status":[200]}`,
		`{"target":"http://a","contains":"a","not_contains":"b","matches":"c+","json":{"a.0":{"b":[1.0,null]}}}`,
		`{"target":"http://a","redirects":0,"credentials":"c","server_name":"s","insecure":true,"min_days":7}`, `{"target":"http://a:b"}`,
		`{"target":"http://a","headers":{"Cookie":"x"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, details string) {
		o, err := parseHTTP(details)
		if err != nil {
			return
		}
		if o.url.Hostname() == "" || o.Redirects < 0 || o.Redirects > maxRedirects || o.MinDays < 0 || !slices.Contains(httpMethods, o.Method) {
			t.Errorf("%q is taken for %+v", details, o)
		}
		if _, err := o.request(context.Background(), Credentials{}); err != nil {
			t.Errorf("%q can be read, and not be asked for: %v", details, err)
		}
	})
}
