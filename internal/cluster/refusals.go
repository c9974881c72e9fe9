package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/quic-go/quic-go"
)

// What is wrong with a stranger who says nothing, or not all.
var (
	errSilent = fmt.Errorf("it did not show within %v that it is a node", acceptTimeout)
	errHungUp = errors.New("it hung up before it showed that it is a node")
)

// strange says what is wrong with somebody who does not get to say that he is a node.
func strange(err error) error {
	var plain tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var net net.Error
	var closed *quic.ApplicationError
	var reset *quic.StatelessResetError
	var said *quic.TransportError
	switch {
	case errors.As(err, &said) && said.Remote && said.ErrorCode.IsCryptoError():
		return fmt.Errorf("it could not show that it is a node: it hung up: %w", alert(said))
	case errors.As(err, &said) && !said.Remote && said.ErrorCode == noProtocol:
		return errors.New("it does not speak the cluster's language: another program, or a node of another version")
	case errors.As(err, &plain):
		return errors.New("it does not speak TLS: another program, or a node that is configured for plaintext")
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate is not of the cluster's authorities (ca_file): issue it one that is: %w", plainly(err))
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: issue it another one: %w", plainly(err))
	case errors.As(err, &net) && net.Timeout():
		return errSilent
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &closed) || errors.As(err, &reset) ||
		said != nil && said.Remote:
		return errHungUp
	}
	return fmt.Errorf("it could not show that it is a node: %w", plainly(err))
}

// unfriendly says what went wrong with a host to which we connected.
func unfriendly(err error) error {
	var op *net.OpError
	var plain tls.RecordHeaderError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &plain):
		return errors.New("it does not speak TLS: another program, or a node that is configured for plaintext")
	case errors.As(err, &verification):
		return fmt.Errorf("its certificate is not accepted: it has to be of the cluster's authorities (ca_file), "+
			"and for the address or server_name: %w", verification.Err)
	case errors.As(err, &op) && op.Op == "remote error": // an alert
		return fmt.Errorf("it does not accept our certificate, which has to be of the authorities it goes by: %w", err)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET):
		return errors.New("it hung up without a word: is it a node of this cluster, with TLS configured as here?")
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("it did not answer in time: does it run, and does nothing on the way drop what is sent to it?")
	case op != nil:
		return op.Err // without addresses: our port is another one each time
	}
	return err
}

// unreached is unfriendly for packets.
func unreached(err error) error {
	var said *quic.TransportError
	var closed *quic.ApplicationError
	var reset *quic.StatelessResetError
	var version *quic.VersionNegotiationError
	var late net.Error
	switch {
	case errors.As(err, &said) && said.Remote && said.ErrorCode == quic.ConnectionRefused:
		return errors.New("it lets nobody in now: it is about to end, or too many others connect to it at the same time")
	case errors.As(err, &said) && said.Remote && said.ErrorCode == noProtocol, errors.As(err, &version):
		return errors.New("it does not speak the cluster's language by UDP: another program, or a node of another version")
	case errors.As(err, &said) && said.Remote && said.ErrorCode.IsCryptoError():
		return fmt.Errorf("it does not accept our certificate, which has to be of the authorities it goes by, if TLS is configured there at all: %w", alert(said))
	case errors.As(err, &closed) && closed.Remote && closed.ErrorCode == quic.ApplicationErrorCode(otherCluster):
		return errors.New("it is not a node of this cluster, or one of another version: check the clusters' names and the seeds")
	case errors.As(err, &closed), errors.As(err, &reset), errors.As(err, &said) && said.Remote:
		return errors.New("it hung up")
	case errors.As(err, &late) && late.Timeout():
		return errors.New("it did not answer in time: does it run, and does nothing on the way drop UDP to it, or back?")
	}
	return unfriendly(err)
}

// noProtocol is the code of the alert that says that there is no protocol that both sides speak.
const noProtocol quic.TransportErrorCode = 0x100 + 120

// plainly takes QUIC's words off what TLS says.
func plainly(err error) error {
	var said *quic.TransportError
	if errors.As(err, &said) && said.ErrorCode.IsCryptoError() {
		return cmp.Or(errors.Join(said.Unwrap()[1:]...), err) // the first says that the connection is closed
	}
	return err
}

// alert says why the other side has ended a handshake, as TLS says it: in its own words it could say anything.
func alert(e *quic.TransportError) error { return errors.New(e.ErrorCode.Message()) }
