package embedded

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet passes what etcd says at warn and above on to slog, until closing is
// set: a listener that we close is no news.
func quiet(l *slog.Logger, closing *atomic.Bool) *zap.Logger {
	return zap.New(&core{l.With("part", "etcd"), closing}, zap.WithFatalHook(zapcore.WriteThenFatal))
}

// core is a zapcore.Core on a slog.Logger.
type core struct {
	log     *slog.Logger
	closing *atomic.Bool
}

// harmless is what etcd warns of in each start: clients and peers on one port,
// and a kind of token that is only used with passwords of its own.
var harmless = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
}

func (c *core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.log.With(attrs(fields)...), c.closing}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !c.closing.Load() && !harmless[e.Message] {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd: "+e.Message, attrs(fields)...)
	return nil
}

func (c *core) Sync() error { return nil }

func attrs(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	var out []any
	for _, f := range fields {
		f.AddTo(m)
	}
	for k, v := range m.Fields {
		out = append(out, slog.Any(k, v))
	}
	return out
}
