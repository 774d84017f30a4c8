package scopegate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopegate/scopegate/audit"
	"github.com/scopegate/scopegate/policy"
)

// changeRestored is what the audit log calls the suspension of all that a
// backup has.
const changeRestored = "restored"

func storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store <command>",
		Short: "Backs a gateway's store up, and makes one that was restored safe",
		Long: `Works on the store of a configuration itself, whether a gateway runs or not. Run it as
the gateway's user, with its environment: both say where the store is.

` + exitCodes,
		Example: `  scopegate store backup /var/backups/store.db --config Caddyfile
  scopegate store restored --config Caddyfile`,
	}
	cmd.AddCommand(storeBackupCommand(), storeRestoredCommand())
	return cmd
}

func storeBackupCommand() *cobra.Command {
	var f configFlags
	cmd := &cobra.Command{
		Use:   "backup <file> --config <file>",
		Short: "Copies an SQLite store into a new file while it is in use",
		Long: `Copies an SQLite store, as it is at one instant, into a new file of mode 0600, while
gateways use it. The file has its name once it is whole and on the disk. For
PostgreSQL use pg_dump, or what your provider has.`,
		Example: `  scopegate store backup /var/backups/store.db --config /etc/scopegate/Caddyfile
  scopegate store backup store-backup.db --config Caddyfile --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := f.one()
			if err != nil {
				return err
			}
			if d.Store != nil && d.Store.Driver == storePostgres {
				return errors.New("the store is PostgreSQL: use pg_dump, which makes a consistent copy while it is in use")
			}
			s, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			db, ok := s.rows.(interface {
				Backup(ctx context.Context, path string) error
			})
			if !ok {
				return errors.Join(errors.New("the store has no backup of its own"), s.close())
			}
			if err := errors.Join(db.Backup(cmd.Context(), args[0]), s.close()); err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), map[string]string{"backup": args[0]})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "written to %s\n", args[0])
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func storeRestoredCommand() *cobra.Command {
	var f configFlags
	var note, as string
	cmd := &cobra.Command{
		Use:   "restored --config <file>",
		Short: "Suspends what a restored store has, since it forgot what was revoked",
		Long: `To be run once a backup is in place and before a gateway starts on it: a store that
was restored knows nothing of what was suspended or revoked after the backup. Every
active credential of the gateway is suspended until somebody resumes it. Run it for
each gateway of the store.`,
		Example: `  scopegate store restored --config /etc/scopegate/Caddyfile
  scopegate store restored --config Caddyfile --note 'backup of Monday' --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := f.one()
			if err != nil {
				return err
			}
			s, err := d.open(cmd.Context())
			if err != nil {
				return err
			}
			n, err := s.restored(cmd.Context(), note, as)
			if err := errors.Join(err, s.close()); err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"gateway": d.Name, "suspended": n})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "suspended: %d\n", n)
			if n > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "start the gateway, revoke what the audit log shows as revoked since the backup, resume the rest with `%[1]s key resume`, and let the ledger be mended with `%[1]s token reconcile --after-restore`\n", cmd.Parent().Parent().CommandPath())
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&note, "note", "restored from a backup", "why, for those who find a credential suspended")
	cmd.Flags().StringVar(&as, "as", systemUser(), "who asks, for the audit log, which notes it as claimed")
	return cmd
}

// one returns the one gateway that is meant.
func (f *configFlags) one() (*direct, error) {
	found, err := f.load()
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		return nil, misused("the configuration has several gateways: name one with --gateway")
	}
	return newDirect(found[0].Gateway)
}

// idle refuses where a gateway serves from the store: it would go on with what
// it read before the backup was put in place.
func (s *stockroom) idle(ctx context.Context) error {
	list, now, err := s.rows.Replicas(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		if heard := now.Sub(r.Beat); heard <= r.Silence {
			return fmt.Errorf("a gateway was heard from on %s %s ago: stop every gateway of the store first, or wait until that is %s ago", r.Host, heard.Round(time.Second), r.Silence)
		}
	}
	return nil
}

// restored suspends what is active, recorded before it is done.
func (s *stockroom) restored(ctx context.Context, note, by string) (int, error) {
	db, ok := s.rows.(interface {
		Restored(ctx context.Context, note string) (int, error)
	})
	if !ok {
		return 0, errors.New("the store cannot be restored")
	}
	if err := s.idle(ctx); err != nil {
		return 0, err
	}
	started := time.Now()
	rec := &audit.Record{
		UUID: newID(), Phase: audit.Decided, Decision: audit.Allow, Reason: policy.Allowed.String(),
		Change: changeRestored, Operator: by, Note: note,
	}
	if err := s.log.WriteRevocation(rec); err != nil {
		return 0, fmt.Errorf("recording it: %w", err)
	}
	n, err := db.Restored(ctx, note)
	rec.Phase, rec.Complete, rec.Duration = audit.Ended, err == nil, time.Since(started)
	return n, errors.Join(err, s.log.WriteRevocation(rec))
}
