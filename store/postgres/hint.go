package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgxlisten"
)

const (
	// channel is where each change tells its gateway's name.
	channel = "scopegate"

	// reconnectDelay is how long the listener waits after it lost its
	// connection.
	reconnectDelay = 200 * time.Millisecond
)

// Hints tells that something may have changed, by this process or another.
// Several hints at once are one. The channel is closed by Close.
func (s *Store) Hints() <-chan struct{} { return s.hints }

func (s *Store) hint() {
	select {
	case s.hints <- struct{}{}:
	default:
	}
}

// listen gives hints until its context ends. That its connection breaks, or
// cannot be made, is no matter of its own: whoever polls the store finds out.
func (s *Store) listen(ctx context.Context, cfg *pgx.ConnConfig) {
	listener := pgxlisten.Listener{
		Connect:        func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, cfg) },
		ReconnectDelay: reconnectDelay,
	}
	listener.Handle(channel, ear{s})
	_ = listener.Listen(ctx) // it says that the context ended
}

// ear hears what is told on the channel.
type ear struct{ s *Store }

// HandleNotification implements pgxlisten.Handler.
func (e ear) HandleNotification(_ context.Context, n *pgconn.Notification, _ *pgx.Conn) error {
	if n.Payload == e.s.gateway {
		e.s.hint()
	}
	return nil
}

// HandleBacklog implements pgxlisten.BacklogHandler. It is called on each new
// connection: what was told while there was none is lost.
func (e ear) HandleBacklog(context.Context, string, *pgx.Conn) error {
	e.s.hint()
	return nil
}
