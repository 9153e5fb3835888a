package delivery

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// errStopped is what a session's I/O fails with once its context has ended.
var errStopped = errors.New("the node is stopping")

// errForbidden comes from the dialer's control hook.
var errForbidden = errors.New("the address is not allowed")

// faultOf says which fault an I/O error is. A TCP refusal, a reset and an end
// without a word are different signals at different carriers (design.md 7).
func faultOf(err error) message.Fault {
	var netErr net.Error
	switch {
	case errors.Is(err, errStopped), errors.Is(err, errForbidden), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, syscall.EMFILE):
		return message.FaultLocal
	case errors.Is(err, syscall.ECONNREFUSED):
		return message.FaultRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return message.FaultReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return message.FaultClosed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return message.FaultTimeout
	case smtp.IsReplyError(err), errors.Is(err, io.ErrNoProgress):
		return message.FaultProtocol
	case isTLSError(err):
		return message.FaultTLS
	case errors.As(err, &netErr) && netErr.Timeout():
		return message.FaultTimeout
	}
	return message.FaultNetwork
}

var (
	enhNoAnswer = message.Enhanced{Class: 4, Subject: 4, Detail: 1}
	enhBadConn  = message.Enhanced{Class: 4, Subject: 4, Detail: 2}
	enhProtocol = message.Enhanced{Class: 4, Subject: 5, Detail: 0}
	enhLocal    = message.Enhanced{Class: 4, Subject: 3, Detail: 5}
	enhCrypto   = message.Enhanced{Class: 4, Subject: 7, Detail: 5}
)

// faultReply is our own judgement of an I/O error: always temporary, for the
// next attempt meets another moment and maybe another host.
func faultReply(err error, phase message.Phase) message.Reply {
	fault := faultOf(err)
	reply := func(e message.Enhanced, text string) message.Reply {
		return message.Fail(451, e, phase, fault, text)
	}
	switch fault {
	case message.FaultRefused:
		return reply(enhNoAnswer, "connection refused")
	case message.FaultReset:
		return reply(enhBadConn, "connection reset by the host")
	case message.FaultClosed:
		return reply(enhBadConn, "connection closed by the host without a reply")
	case message.FaultTimeout:
		if phase == message.PhaseConnect {
			return reply(enhNoAnswer, "connection timed out")
		}
		return reply(enhBadConn, "no reply from the host in time")
	case message.FaultProtocol:
		return reply(enhProtocol, err.Error())
	case message.FaultTLS:
		return reply(enhCrypto, clean("TLS: "+err.Error()))
	case message.FaultLocal:
		return localReply(err, phase)
	}
	return reply(enhNoAnswer, clean(networkText(err)))
}

func localReply(err error, phase message.Phase) message.Reply {
	text := "stopped by the node"
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		text = "source not on this host: its address cannot be bound"
	case errors.Is(err, syscall.EMFILE):
		text = "out of file descriptors"
	case errors.Is(err, errForbidden):
		return message.Fail(550, message.Enhanced{Class: 5, Subject: 4, Detail: 4}, phase, message.FaultLocal,
			"the host has no address that mail may be sent to")
	}
	return message.Fail(451, enhLocal, phase, message.FaultLocal, text)
}

// networkText is the system's own word for it, without addresses.
func networkText(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no.Error()
	}
	return "network error"
}

// clean keeps our reply texts free of control bytes and short: parts of a
// peer's certificate can be in an error.
func clean(s string) string {
	const most = 300
	b := make([]byte, 0, min(len(s), most))
	for i := 0; i < len(s) && len(b) < most; i++ {
		c := s[i]
		if c < 0x20 || c >= 0x7f {
			c = '?'
		}
		b = append(b, c)
	}
	return string(b)
}
