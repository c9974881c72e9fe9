package observe

import (
	"net"
	"net/http"
	"net/http/pprof" // which also registers itself, where nothing of ours serves
	"net/netip"
)

// profiles answers below /debug/pprof/ with what Go tells of a running process: goroutines, heap, where
// the CPU's time goes. Taking that costs something, and it shows what is inside; so only those have it who ask
// from this machine.
func profiles(mux *http.ServeMux) {
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/":        pprof.Index,
		"/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/trace":   pprof.Trace,
		"/debug/pprof/symbol":  pprof.Symbol,
		"/debug/pprof/cmdline": pprof.Cmdline,
	} {
		mux.HandleFunc("GET "+path, fromHere(handler))
	}
}

// fromHere refuses requests that come over a network, also by way of a proxy on this machine, or of a browser that was told
// that some other name is this machine's, or that a page of somebody else's has send what changes something.
func fromHere(handler http.HandlerFunc) http.HandlerFunc {
	var pages http.CrossOriginProtection
	return func(w http.ResponseWriter, r *http.Request) {
		if err := pages.Check(r); err != nil {
			http.Error(w, r.URL.Path+" is not for pages of other sites: "+err.Error(), http.StatusForbidden)
			return
		}
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		forwarded := r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != ""
		if err != nil || !peer.Addr().Unmap().IsLoopback() || forwarded || !isLoopback(r.Host) {
			http.Error(w, r.URL.Path+" is only for requests from the machine on which the poller runs, to a loopback address", http.StatusForbidden)
			return
		}
		handler(w, r)
	}
}

// isLoopback tells of a host, with a port or not, whether it can be no other machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
