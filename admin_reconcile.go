package scopegate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/ledger"
)

// findingView is what a reconciliation found of one token.
type findingView struct {
	Finding string `json:"finding"`
	ID      string `json:"id"`
	Nonce   string `json:"nonce,omitempty"`
	Team    string `json:"team,omitempty"`
	Name    string `json:"name,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

type reconciliationView struct {
	Started  time.Time      `json:"started_at"`
	Seconds  float64        `json:"seconds"`
	DryRun   bool           `json:"dry_run"`
	Stopped  string         `json:"stopped,omitempty"`
	Counts   map[string]int `json:"counts"`
	Findings []findingView  `json:"findings"`
}

// reconcile holds the ledger against GoodAccess's list now.
func (c *call) reconcile() error {
	var body struct {
		DryRun       bool `json:"dry_run"`
		MaxDeletions int  `json:"max_deletions"`
		AfterRestore bool `json:"after_restore"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.MaxDeletions < 0 {
		return badRequest("max_deletions", "it must not be below zero")
	}
	g, err := c.keeper()
	if err != nil {
		return err
	}
	var report *ledger.Report
	err = c.recorded(g, audit.Record{Change: changeReconcile}, func(context.Context, string) error {
		// For as long as it takes: whoever asked may hang up and so end it.
		report, err = g.room.ledger.Reconcile(c.r.Context(), ledger.Reconciliation{
			Dry: body.DryRun, MaxDeletions: body.MaxDeletions, AfterRestore: body.AfterRestore,
			Progress: func(listed int) { g.logger.Info("reconciling", zap.Int("listed", listed)) },
		})
		return err
	})
	if errors.Is(err, ledger.ErrBusy) {
		return &problemError{Kind: kindBusy, Detail: err.Error() + "; try again when it has ended"}
	}
	if err != nil {
		return err
	}
	v := reconciliationView{
		Started: report.Started, Seconds: report.Took.Seconds(), DryRun: report.Dry, Stopped: report.Stopped,
		Counts: report.Counts, Findings: []findingView{},
	}
	for _, f := range report.List {
		v.Findings = append(v.Findings, findingView{f.Kind, f.ID, f.Nonce, f.Team, f.Name, f.Detail})
	}
	return c.reply(http.StatusOK, v)
}
