package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/auser/mvm/internal/lifecycle"
	"github.com/auser/mvm/internal/metrics"
	"github.com/auser/mvm/internal/stats"
)

func (a *app) metricsCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Print metrics of all tenants and the host for Prometheus, or serve them",
		Long: `Print metrics of all tenants and the host for Prometheus, or serve them.

They tell about all tenants, so they are served to this host alone: on a socket
for root, or on a loopback address. docs/grafana.json is a dashboard for them.`,
		Example: `  mvm metrics > /var/lib/node_exporter/mvm.prom
  mvm metrics --listen 127.0.0.1:9550
  mvm metrics --listen unix:/run/mvm-metrics.sock`,
		Args: exactArgs(0, "no arguments"),
		RunE: a.onHost(func(ctx context.Context, h *lifecycle.Host, _ []string) error {
			reader, err := stats.NewReader(h)
			if err != nil {
				return err
			}
			write := func(ctx context.Context, w io.Writer) error { return metrics.Collect(ctx, w, h, reader) }
			if listen == "" {
				return write(ctx, a.Out)
			}
			l, err := metrics.Listen(listen)
			if err != nil {
				return fmt.Errorf("cannot serve metrics: %w", err)
			}
			a.note("serving /metrics on %s; Ctrl-C ends it", listen)
			return metrics.Serve(ctx, l, write)
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", "", "serve them on unix:<path> or a loopback address")
	return cmd
}
