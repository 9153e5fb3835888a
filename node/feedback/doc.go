// Package feedback takes in what comes back after mail has left: bounces and
// complaints by SMTP, one-click requests to unsubscribe by HTTP. It decides who
// may write here, has the mail read by package reputation/feedback, ties it to a
// delivery and a recipient by the token that it carries, and hands what is proved
// to Options.Handle. It never sends anything, keeps nothing on disk, and has no
// goroutines.
//
// It knows no server: Receiver.Recipient and Receiver.Take are what one asks at
// RCPT and at the end of data, Receiver.OneClick what one serves, and package node
// joins them with ingest's SMTP server and net/http's.
//
//	RCPT ──▶ Recipient      a token of ours, or an address of Options.Addresses; else 550
//	data ──▶ Take ──▶ Parse ──▶ token ──▶ whose recipient? ──▶ Handle ──▶ 250
//	POST ──▶ OneClick ────────▶ sealed token ────────────────▶ Handle ──▶ 200
//
// receiver.go is the door, gate.go who may write, take.go the way of a mail,
// prove.go how a recipient is found, oneclick.go the HTTP side, limit.go and
// bounded.go the bounds, metrics.go what is counted.
//
// # What is answered
//
// A bounce to a token gets 250 once its news is durable, or when there is none:
// automatic replies, receipts, notices that say nothing of use are dropped and
// counted. They were written by programs, and a refusal would have no reader. At
// the addresses that people know (Options.Addresses, postmaster, abuse) what is
// no report is refused with 550, so that whoever wrote there learns of it from
// his own server. Nothing is ever answered by mail, so there is no backscatter.
//
// INVARIANT: 250 and 200 for news are said only when Handle has returned nil.
//
// INVARIANT: no address is handed on that no token proves; what is forged,
// expired, cut or said again changes nothing. Only a request to unsubscribe is
// handed on again, as such: somebody may have taken the first back.
//
// INVARIANT: GET never unsubscribes.
package feedback
