package probe

import (
	"strings"
	"testing"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	settings := &Settings{Credentials: map[string]Credentials{
		"db":  {Username: "u", Password: "hunter2", Hosts: []string{"10.1.0.0/16", "192.0.2.7", "*.db.example", "2001:db8::/32", "cache.example"}},
		"old": {Password: "hunter2", Hosts: []string{"10.1.*", "web-*", "api.exampl?", "[a-z].example"}},
		"all": {Password: "hunter2", Hosts: []string{"*"}},
	}}
	for host, want := range map[string]string{
		"10.1.2.3": "", "::ffff:10.1.2.3": "", "192.0.2.7": "", "2001:db8::1": "", "a.db.example": "", "A.DB.example.": "",
		"a.b.db.example": "", "Cache.example": "",
		"10.2.0.1": "are not for the host", "192.0.2.8": "are not for the host", "db.example": "are not for the host",
		"a.db.example.evil.example": "are not for the host", "": "are not for the host", ".db.example": "are not for the host",
		"adb.example": "are not for the host", "a.cache.example": "are not for the host",
		// strings.ToLower makes an i of İ, and who dials looks for another name.
		"a.db.exampleİ": "write it as xn--…", "İ.db.example": "write it as xn--…", "cache.example\xff": "write it as xn--…",
	} {
		c, err := settings.credentials("db", host)
		if want == "" && (err != nil || c.Password != "hunter2") {
			t.Errorf("%s: %v", host, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || c.Password != "") {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"10.1.evil.example", "web-1.evil.example", "web-1", "api.example", "a.example"} {
		if c, err := settings.credentials("old", host); err == nil || c.Password != "" {
			t.Errorf("%s has what is for names with a * elsewhere than at their beginning", host)
		}
	}
	if c, err := settings.credentials("all", "anybody.example"); err != nil || c.Password != "hunter2" {
		t.Errorf("of all names: %v", err)
	}
	if _, err := settings.credentials("all", "10.1.2.3"); err == nil {
		t.Error("an address has what is for names")
	}
	if c, err := settings.credentials("", "anybody.example"); err != nil || c.Password != "" {
		t.Errorf("without a name: %v", err)
	}
	for _, none := range []*Settings{nil, {}} {
		if _, err := none.credentials("db", "10.1.2.3"); err == nil || !strings.Contains(err.Error(), "[credentials.db]") {
			t.Errorf("of no settings: %v", err)
		}
	}
}
