package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// OpenAPIPath is where the OpenAPI document is served, with .json or .yaml.
const OpenAPIPath = "/v1/node/openapi"

// Options set up the API. Node is required.
type Options struct {
	Node Node
	// API takes the operations, so that all parts of the admin API are in one
	// document. nil: one of their own on the mux, with its document.
	API huma.API
	// Cluster tells of the parts that join the node to others. nil: there are
	// none.
	Cluster func() *Cluster
	// Webhooks and Senders tell of parts beside the node. nil: there are none.
	Webhooks Webhooks
	Senders  Senders
	// Suppressions is the node's suppression list. nil: it keeps none.
	Suppressions Suppressions
	// Replies is what the node makes of replies. nil: nothing is known.
	Replies Replies
	// Collectors are printed on /metrics beside the node's own.
	Collectors []prometheus.Collector
	Version    string
	Pprof      bool         // serve /debug/pprof
	Logger     *slog.Logger // nil: discard
	Streams    int          // streams open at once. Default 32
}

// api is the handlers' common ground.
type api struct {
	node     Node
	cluster  func() *Cluster
	webhooks Webhooks
	senders  Senders
	list     Suppressions
	replies  Replies
	log      *slog.Logger
	streams  chan struct{}
}

// Register puts the node's routes on mux and returns their OpenAPI document.
// The mux must be served behind Guard.
func Register(mux *http.ServeMux, o Options) *huma.OpenAPI {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Streams <= 0 {
		o.Streams = 32
	}
	a := &api{node: o.Node, cluster: o.Cluster, webhooks: o.Webhooks, senders: o.Senders, list: o.Suppressions, replies: o.Replies, log: o.Logger, streams: make(chan struct{}, o.Streams)}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", metricsHandler(&o))
	if o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	h := o.API
	if h == nil {
		c := huma.DefaultConfig("Hikyaku node", o.Version)
		c.Info.Description = "What one node of Hikyaku has queued, why, and what to do about it."
		c.OpenAPIPath, c.DocsPath, c.SchemasPath = OpenAPIPath, "", ""
		c.CreateHooks = nil // no $schema in answers: they are for programs that have the types
		c.RejectUnknownQueryParameters = true
		h = humago.New(mux, c)
	}
	a.register(h)
	a.registerStreams(h)
	return h.OpenAPI()
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the client may be gone; there is nobody to tell
}

// readyz is 200 when the node serves, else 503 with a reason a line.
func (a *api) readyz(w http.ResponseWriter, _ *http.Request) {
	if reasons := a.node.NotReady(); len(reasons) > 0 {
		plain(w, http.StatusServiceUnavailable, strings.Join(reasons, "\n"))
		return
	}
	plain(w, http.StatusOK, "ready")
}

func metricsHandler(o *Options) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(o.Collectors...)
	r.MustRegister(collector{o.Node, o.Cluster, o.Webhooks, o.Senders, o.Suppressions}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		Timeout:             30 * time.Second,
		ErrorLog:            slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
	})
}

// fail turns a Node's error into a problem document. What is not meant for the
// client is logged here and answered plainly.
func (a *api) fail(what string, err error) error {
	var known huma.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known): // found here, before the node was asked
		return err
	case errors.Is(err, ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, ErrInvalid):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, ErrConflict):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, ErrUnavailable):
		return huma.Error503ServiceUnavailable(err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return huma.Error503ServiceUnavailable("the answer took too long")
	}
	a.log.Error("admin API", "request", what, "error", err)
	return huma.Error500InternalServerError("internal error; the node's log has it")
}
