package check

// TLSMode says how a connection is secured.
type TLSMode string

// The modes. An empty mode is TLSNone.
const (
	// TLSNone is plaintext.
	TLSNone TLSMode = "none"
	// TLSServer checks the server's certificate and shows none.
	TLSServer TLSMode = "tls"
	// TLSMutual checks the server's certificate and shows our own.
	TLSMutual TLSMode = "mtls"
)

// TLS names an identity: the files to load and whom to expect. It is comparable.
type TLS struct {
	Mode TLSMode
	// CertFile and KeyFile are PEM files with our certificate chain and its key: for mode mtls,
	// and for servers.
	CertFile, KeyFile string
	// CAFile is a PEM file with the authorities that the peer's certificate is checked against;
	// empty means the system's, which mode mtls does not accept.
	CAFile string
	// ServerName is the name expected in the server's certificate; empty means the host of the address.
	ServerName string
}
