package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/scopegate/scopegate/store"
)

// What a run finds of a token.
const (
	Ours      = "ours"
	Drifted   = "drifted"   // it is ours, and not as it was made
	Owed      = "owed"      // it is to be deleted, or being made
	Foreign   = "foreign"   // it has nothing to do with this gateway
	Stray     = "stray"     // it has a genuine stamp, and no row is about it
	Vanished  = "vanished"  // upstream has it no longer
	Unlisted  = "unlisted"  // upstream has it, and does not list it
	Recovered = "recovered" // it is that of a reply that was lost; it is deleted
	Expired   = "expired"   // its time is over, and upstream still lists it
)

// Findings are all that a run can find, for those who count.
var Findings = []string{Ours, Drifted, Owed, Foreign, Stray, Vanished, Unlisted, Recovered, Expired}

// DefaultMaxDeletions is how many lost tokens a run deletes, and how many
// vanished ones it gives up, without asking. More of the former are no accident
// of the network; more of the latter may be another account's master token.
const DefaultMaxDeletions = 20

const (
	// mostTold bounds what a report lists; what it counts has no bound.
	mostTold = 1000
	// longestText is how much of a name, or of an error, is told, in bytes.
	longestText = 256
)

// Finding is one token that is not simply as it should be.
type Finding struct {
	Kind   string
	ID     string
	Nonce  string
	Team   string
	Name   string
	Detail string
}

// Report is what a run found and did.
type Report struct {
	Started time.Time
	Took    time.Duration
	Dry     bool
	Counts  map[string]int
	List    []Finding // all but ours, foreign and expired; the first ones of very many

	// Stopped says why the run changed nothing, where it stopped to ask.
	Stopped string
}

func (r *Report) add(f Finding) {
	r.Counts[f.Kind]++
	if f.Kind == Ours || f.Kind == Foreign || f.Kind == Expired || len(r.List) == mostTold {
		return
	}
	f.Name = clipped(f.Name)
	r.List = append(r.List, f)
}

// Reconciliation is what a run is asked to do.
type Reconciliation struct {
	Dry bool

	// MaxDeletions is how many tokens may be deleted, and how many that have
	// vanished may be given up. Default: DefaultMaxDeletions.
	MaxDeletions int

	// AfterRestore lets a run change something although the store came from a
	// backup, which may have forgotten much. It says that an operator has seen
	// what a dry run found.
	AfterRestore bool

	Progress func(listed int)
}

// ErrBusy says that another replica, or another run, is at it.
var ErrBusy = errors.New("a reconciliation is under way already")

// RunReconciler reconciles until the context ends: where no replica has for as
// long as every says, and soon after a reply was lost.
func (l *Ledger) RunReconciler(ctx context.Context, every func() time.Duration) {
	look := time.NewTicker(sweepEvery)
	defer look.Stop()
	var next time.Time
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if !l.API.Ready() || time.Now().Before(next) {
			continue
		}
		failures++
		if err := l.reconcileIfDue(ctx, every()); err != nil {
			l.try("the reconciliation with upstream", err)
			next = time.Now().Add(pause(failures + 4)) // it asks much, so it is not tried as often as a deletion
			continue
		}
		failures = 0
	}
}

func (l *Ledger) reconcileIfDue(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		return nil
	}
	// A lease that nobody renews and nobody gives back is a clock for all.
	due, err := l.Rows.Acquire(ctx, leaseDue, l.turn(), every)
	if err != nil {
		return err
	}
	if lost := l.lost.Swap(false); !due && !lost {
		return nil
	}
	if _, err = l.Reconcile(ctx, Reconciliation{}); err != nil {
		l.lost.Store(true)
	}
	if errors.Is(err, ErrBusy) {
		return nil
	}
	return err
}

// Reconcile holds the ledger against what upstream lists. It finds the tokens
// whose reply was lost and has them deleted, and those that upstream has no
// longer; about all else that is not as it should be it only tells.
//
// It changes nothing before the list has been read to its end.
func (l *Ledger) Reconcile(ctx context.Context, o Reconciliation) (*Report, error) {
	if o.MaxDeletions <= 0 {
		o.MaxDeletions = DefaultMaxDeletions
	}
	began := time.Now()
	run := &run{
		l: l, o: o, holder: l.turn(),
		listed: map[string]bool{}, byNonce: map[string]string{}, lost: map[string]store.Token{},
		report: &Report{Started: l.Now(), Dry: o.Dry, Counts: map[string]int{}},
	}
	for _, kind := range Findings {
		run.report.Counts[kind] = 0
	}
	if err := run.keepTurn(ctx); err != nil {
		return nil, err
	}
	err := run.all(ctx)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	err = errors.Join(err, l.Rows.Release(end, leaseRun, run.holder))
	run.report.Took = time.Since(began)
	if err != nil {
		return run.report, err
	}
	l.Events.Reconciled(run.report)
	return run.report, l.API.Note(Call{Cause: "reconciled: " + run.report.String()})
}

// String is the report in a line.
func (r *Report) String() string {
	var text strings.Builder
	for _, kind := range Findings {
		fmt.Fprintf(&text, "%s=%d ", kind, r.Counts[kind])
	}
	switch {
	case r.Stopped != "":
		text.WriteString("stopped: " + r.Stopped)
	case r.Dry:
		text.WriteString("(a dry run)")
	default:
		text.WriteString("done")
	}
	return text.String()
}

// run is one reconciliation under way.
type run struct {
	l      *Ledger
	o      Reconciliation
	holder string // of the lease: two runs of one process exclude each other too
	report *Report

	pending []Seen // of the list, not yet looked up
	total   int
	listed  map[string]bool        // ids of ours that upstream lists
	byNonce map[string]string      // the id that came with a genuine stamp
	twice   map[string]bool        // nonces that came with more than one id
	lost    map[string]store.Token // rows of lost replies, by the id that turned up

	vanished []store.Token
}

func (r *run) all(ctx context.Context) error {
	restored, err := r.l.Rows.Restoration(ctx)
	if err != nil {
		return err
	}
	if !restored.IsZero() && !r.o.AfterRestore {
		r.report.Dry = true
		r.report.Stopped = "the store was restored from a backup; look at what a run would do, then say that it may"
	}
	if err := r.list(ctx); err != nil {
		return fmt.Errorf("listing upstream's tokens: %w", err)
	}
	// That one token could not be asked for keeps no lost one alive.
	unasked := r.absent(ctx)
	if unasked != nil {
		unasked = fmt.Errorf("looking for tokens that upstream does not list: %w", unasked)
	}
	r.consider()
	if r.report.Dry || r.report.Stopped != "" {
		return unasked
	}
	if err := r.act(ctx); err != nil {
		return errors.Join(unasked, fmt.Errorf("writing down what was found: %w", err))
	}
	if unasked == nil && !restored.IsZero() {
		return r.l.Rows.EndRestoration(ctx)
	}
	return unasked
}

// list classifies what upstream lists.
func (r *run) list(ctx context.Context) error {
	if err := r.pace(ctx); err != nil {
		return err
	}
	err := r.l.API.List(ctx, "to reconcile", func(s Seen) error {
		r.pending = append(r.pending, s)
		if len(r.pending) < store.MostTokens/2 {
			return nil
		}
		return r.lookUp(ctx)
	})
	if err != nil {
		return r.heed(err)
	}
	return r.lookUp(ctx)
}

// heed makes no more calls for as long as upstream asked for with an error.
func (r *run) heed(err error) error {
	if wait, ok := errors.AsType[*Wait](err); ok {
		r.l.budget.hold(wait.For)
	}
	return err
}

func (r *run) lookUp(ctx context.Context) error {
	if len(r.pending) == 0 {
		return nil
	}
	ids, nonces := make([]string, 0, len(r.pending)), []string{}
	for _, s := range r.pending {
		ids = append(ids, s.ID)
		if s.Nonce != "" {
			nonces = append(nonces, s.Nonce)
		}
	}
	rows, err := r.l.Rows.FindTokens(ctx, ids, nonces)
	if err != nil {
		return err
	}
	byID, byNonce := map[string]store.Token{}, map[string]store.Token{}
	for _, t := range rows {
		byNonce[t.Nonce] = t
		if t.ID != "" {
			byID[t.ID] = t
		}
	}
	for _, s := range r.pending {
		t, known := byID[s.ID]
		if !known && s.Nonce != "" {
			t, known = byNonce[s.Nonce]
		}
		r.classify(s, t, known)
	}
	r.total += len(r.pending)
	r.pending = r.pending[:0]
	if r.o.Progress != nil {
		r.o.Progress(r.total)
	}
	return r.keepTurn(ctx)
}

// keepTurn goes on holding the lease: a long run is no dead one.
func (r *run) keepTurn(ctx context.Context) error {
	held, err := r.l.Rows.Acquire(ctx, leaseRun, r.holder, turn)
	if err == nil && !held {
		err = ErrBusy
	}
	return err
}

func (r *run) classify(s Seen, t store.Token, known bool) {
	if _, lost := r.lost[s.ID]; lost || r.listed[s.ID] {
		return // it stands in the list twice
	}
	f := Finding{ID: s.ID, Nonce: s.Nonce, Name: s.Name, Team: t.Team}
	defer func() { r.report.add(f) }()
	if s.Nonce != "" {
		if other, came := r.byNonce[s.Nonce]; came && other != s.ID {
			// One of the two is a copy. Which one cannot be told, unless the
			// row has the id.
			r.contest(s.Nonce)
		}
		r.byNonce[s.Nonce] = s.ID
	}
	switch {
	case !known && s.Nonce == "":
		f.Kind = Foreign
	case !known:
		f.Kind, f.Detail = Stray, "its stamp is this gateway's, and the ledger has no row of it"
	case t.State == Gone && (t.ID == s.ID || t.ID == "") && r.l.expired(t):
		f.Kind = Expired
	case t.ID == s.ID && t.State == Gone:
		f.Kind, f.Detail = Stray, "upstream said before that it was gone"
	case t.ID == s.ID && t.State == Unknown && t.Nonce != s.Nonce:
		f.Kind, f.Detail = Stray, "upstream named it for a mint, and it does not have that mint's stamp"
	case t.ID == s.ID && t.State == Unknown:
		f.Kind, f.Detail = Recovered, t.Cause
		r.lost[s.ID] = t
	case t.ID == s.ID:
		r.listed[s.ID] = true
		f.Kind = Ours
		if t.State != Live {
			f.Kind, f.Detail = Owed, t.Cause
		} else if differs := s.Differs(t); len(differs) > 0 {
			f.Kind, f.Detail = Drifted, fmt.Sprintf("not as it was made: %v", differs)
		}
	case t.ID != "":
		f.Kind, f.Detail = Stray, "a second token with the stamp of "+t.ID
	case t.State == Unknown && !r.twice[s.Nonce]:
		f.Kind, f.Detail = Recovered, t.Cause
		r.lost[s.ID] = t
	case t.State == Intent && !r.twice[s.Nonce]:
		f.Kind, f.Detail = Owed, "it is being made"
	default:
		f.Kind, f.Detail = Stray, "more than one token has its stamp, and the ledger knows the id of none"
	}
}

// contest takes back what was thought of a token whose stamp another one has
// too: nothing is deleted of which it is not certain that this store lost it.
func (r *run) contest(nonce string) {
	if r.twice == nil {
		r.twice = map[string]bool{}
	}
	r.twice[nonce] = true
	id := r.byNonce[nonce]
	if _, lost := r.lost[id]; !lost {
		return
	}
	delete(r.lost, id)
	r.report.Counts[Recovered]--
	r.report.List = slices.DeleteFunc(r.report.List, func(f Finding) bool { return f.Kind == Recovered && f.ID == id })
	r.report.add(Finding{Kind: Stray, ID: id, Nonce: nonce, Detail: "more than one token has its stamp, and the ledger knows the id of none"})
}

// absent asks for each live token that the list did not have. One that went
// live while the list was read is no finding. Where there are more than may be
// given up, it asks no further, but in a dry run.
func (r *run) absent(ctx context.Context) error {
	f := store.TokenFilter{States: []string{Live}, Limit: 500}
	for {
		page, next, err := r.l.Rows.Tokens(ctx, f)
		if err != nil {
			return err
		}
		for _, t := range page {
			if r.listed[t.ID] || !t.Changed.Before(r.report.Started) {
				continue
			}
			if len(r.vanished) > r.o.MaxDeletions && !r.report.Dry {
				return nil
			}
			if err := r.ask(ctx, t); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		f.After = next
	}
}

func (r *run) ask(ctx context.Context, t store.Token) error {
	if err := r.pace(ctx); err != nil {
		return err
	}
	_, err := r.l.API.Read(ctx, Call{ID: t.ID, Team: t.Team, Credential: t.Credential, Cause: "it is not in upstream's list"})
	finding := Finding{ID: t.ID, Nonce: t.Nonce, Team: t.Team, Name: t.Name}
	switch {
	case errors.Is(err, ErrNone):
		now, err := r.l.Nonce(ctx, t.Nonce)
		if err != nil {
			return err
		}
		if now.Version != t.Version {
			return nil // it was deleted here, meanwhile
		}
		finding.Kind, finding.Detail = Vanished, "upstream has it no longer, and it was not deleted here"
		r.vanished = append(r.vanished, t)
	case err != nil:
		return r.heed(err)
	default:
		finding.Kind, finding.Detail = Unlisted, "upstream's list is not the whole"
	}
	r.report.add(finding)
	return nil
}

// pace waits until upstream may be asked again. It does not wait where upstream
// itself wants to be left alone, which may be for long.
func (r *run) pace(ctx context.Context) error {
	for {
		if err := r.keepTurn(ctx); err != nil {
			return err
		}
		if held := r.l.budget.heldFor(); held > 0 {
			return fmt.Errorf("upstream asked to be left alone, for another %s", held.Round(time.Second))
		}
		wait := r.l.budget.takeSpare()
		if wait == 0 {
			return nil
		}
		t := time.NewTimer(min(wait, turn/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// consider stops a run that would change more than it may.
func (r *run) consider() {
	switch most := r.o.MaxDeletions; {
	case r.report.Stopped != "":
	case len(r.lost) > most:
		r.report.Stopped = fmt.Sprintf("it would delete %d tokens, which is more than %d", len(r.lost), most)
	case len(r.vanished) > most:
		r.report.Stopped = fmt.Sprintf("more than %d tokens have vanished; is this the master token of the account in which they were made?", most)
	}
}

// act owes the end of the tokens whose replies were lost, and gives those up
// that have vanished. Who changed a row meanwhile knew better.
func (r *run) act(ctx context.Context) error {
	if err := r.keepTurn(ctx); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(r.lost)) {
		t := r.lost[id]
		t.ID, t.Due = id, r.l.Now()
		_, err := r.l.move(ctx, t, Revoking, "its reply was lost and its secret is known to nobody", nil)
		if err != nil && !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
	for _, t := range r.vanished {
		if err := r.l.Vanished(ctx, t); err != nil {
			return err
		}
	}
	if len(r.lost) > 0 {
		r.l.poke()
	}
	return nil
}
