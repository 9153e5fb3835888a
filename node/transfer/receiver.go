package transfer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Handler answers other nodes. Mount it at Path and Path + "/", behind whatever
// makes sure that the client is a node of the cluster: it believes who says so.
func (t *Transfer) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST "+Path, t.serveParcel)
	m.HandleFunc("POST "+pathHello, t.serveHello)
	m.HandleFunc("POST "+pathAsk, t.serveAsk)
	m.HandleFunc("POST "+pathConfirm, t.serveConfirm)
	m.HandleFunc("POST "+pathOrder, t.serveOrder)
	return m
}

func answer(w http.ResponseWriter, status int, r *reply) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(r) // the sender asks again if it does not hear
}

func (t *Transfer) refuse(w http.ResponseWriter, status int, err error) {
	t.count.refused.Add(1)
	answer(w, status, &reply{Reason: err.Error(), Node: t.o.Name, Spool: t.o.Spool.NodeID()})
}

// statusOf is how an error of the spool goes on the wire. None of them says
// that a transfer did not come and will not: that is for ask alone.
func statusOf(err error) int {
	switch {
	case errors.Is(err, spool.ErrOtherSpool):
		return http.StatusMisdirectedRequest
	case errors.Is(err, spool.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, spool.ErrInvalid), errors.Is(err, errBody):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// serveParcel takes a parcel. The body is in memory as a whole, so its length
// must be told, and there must be room for it.
func (t *Transfer) serveParcel(w http.ResponseWriter, r *http.Request) {
	switch n := r.ContentLength; {
	case n < 0:
		t.refuse(w, http.StatusLengthRequired, errors.New("a parcel needs its length"))
		return
	case n > t.o.MaxParcel:
		t.refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("a parcel of %d bytes; this node takes %d", n, t.o.MaxParcel))
		return
	}
	if err := t.ready(); err != nil {
		t.refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	if !t.received.take(r.ContentLength) {
		t.refuse(w, http.StatusServiceUnavailable, errors.New("too many parcels at once"))
		return
	}
	defer t.received.give(r.ContentLength)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(t.o.Timeout)) // not every test's writer has one
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		t.refuse(w, http.StatusBadRequest, fmt.Errorf("read parcel: %w", err))
		return
	}
	got, err := t.receive(body)
	if err != nil {
		t.refuse(w, statusOf(err), err)
		return
	}
	status := http.StatusOK
	if got == spool.Fenced || got == spool.Forgotten {
		t.count.refused.Add(1)
		status = http.StatusConflict
	}
	answer(w, status, &reply{Answer: got})
}

func (t *Transfer) ready() error {
	if err := t.o.Spool.Admit(); err != nil {
		return err
	}
	return t.o.Host.Ready()
}

// receive checks and stores a parcel.
func (t *Transfer) receive(body []byte) (spool.Answer, error) {
	p, err := spool.ParseParcel(body)
	if err != nil {
		t.log.Error("a parcel from another node is malformed", "error", err)
		return "", err
	}
	if p.To != t.o.Spool.NodeID() { // before the host makes ready for it
		return "", fmt.Errorf("%w: the parcel is for %s, this is %s", spool.ErrOtherSpool, p.To, t.o.Spool.NodeID())
	}
	events, end, err := t.o.Host.Arriving(p)
	if err != nil {
		return "", err
	}
	got, err := t.o.Spool.Receive(p, events)
	switch {
	case err != nil:
		end(err)
		return "", err
	case got != spool.Stored:
		end(fmt.Errorf("transfer %d of %s: %s", p.Number, p.From.Name, got))
		return got, nil
	}
	end(nil)
	n := p.Deliveries()
	t.count.received.add(n, len(body))
	t.log.Debug("deliveries came from another node", "from", p.From.Name, "transfer", p.Number, "deliveries", n)
	return got, nil
}

// question reads one, and refuses it if it is for another spool.
func (t *Transfer) question(w http.ResponseWriter, r *http.Request) (q question, ok bool) {
	err := readJSON(r.Body, &q)
	if err == nil && q.To != "" && q.To != t.o.Spool.NodeID() {
		err = fmt.Errorf("%w: meant is %s, this is %s", spool.ErrOtherSpool, q.To, t.o.Spool.NodeID())
	}
	if err != nil {
		t.refuse(w, statusOf(err), err)
		return q, false
	}
	return q, true
}

func (t *Transfer) serveHello(w http.ResponseWriter, r *http.Request) {
	q, ok := t.question(w, r)
	if !ok {
		return
	}
	known, err := t.o.Spool.SenderOf(q.From.Spool)
	if err != nil {
		t.refuse(w, statusOf(err), err)
		return
	}
	out := &reply{Node: t.o.Name, Spool: t.o.Spool.NodeID(), High: known.High, Floor: known.Floor, Bytes: t.o.MaxParcel, Version: spool.ParcelVersion, Ready: true}
	if err := t.ready(); err != nil {
		out.Ready, out.Reason = false, err.Error()
	}
	answer(w, http.StatusOK, out)
}

func (t *Transfer) serveAsk(w http.ResponseWriter, r *http.Request) {
	q, ok := t.question(w, r)
	if !ok {
		return
	}
	if q.To == "" {
		t.refuse(w, http.StatusBadRequest, fmt.Errorf("%w: which spool is meant", errBody))
		return
	}
	got, err := t.o.Spool.AskTransfer(q.From, q.Number)
	if err != nil {
		t.refuse(w, statusOf(err), err)
		return
	}
	answer(w, http.StatusOK, &reply{Answer: got})
}

func (t *Transfer) serveConfirm(w http.ResponseWriter, r *http.Request) {
	q, ok := t.question(w, r)
	if !ok {
		return
	}
	if q.To == "" {
		t.refuse(w, http.StatusBadRequest, fmt.Errorf("%w: which spool is meant", errBody))
		return
	}
	if err := t.o.Spool.ForgetTransfers(q.From, q.Floor); err != nil {
		t.refuse(w, statusOf(err), err)
		return
	}
	answer(w, http.StatusOK, &reply{})
}

func (t *Transfer) serveOrder(w http.ResponseWriter, r *http.Request) {
	var o Order
	err := readJSON(r.Body, &o)
	switch {
	case err != nil:
	case o.To != t.o.Spool.NodeID():
		err = fmt.Errorf("%w: meant is %s, this is %s", spool.ErrOtherSpool, o.To, t.o.Spool.NodeID())
	case o.Verb != VerbCancel && o.Verb != VerbExpire, len(o.Reason) > 1024, len(o.Author) > 256, o.At.IsZero():
		err = fmt.Errorf("%w: order %q", errBody, o.Verb)
	default:
		if _, bad := message.ParseDeliveryID(o.ID); bad != nil {
			err = fmt.Errorf("%w: %w", errBody, bad)
		}
	}
	if err == nil {
		err = t.o.Host.Order(&o)
	}
	if err != nil {
		t.refuse(w, statusOf(err), err)
		return
	}
	answer(w, http.StatusOK, &reply{})
}

// The verbs of an Order.
const (
	VerbCancel = "cancel"
	VerbExpire = "expire"
)
