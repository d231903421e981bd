package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auser/mvm/internal/stats"
	"github.com/auser/mvm/internal/tenant"
)

func (a *app) topCommand() *cobra.Command {
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch what running tenants take, in a live view of the whole terminal",
		Long: `Watch what running tenants take, in a live view of the whole terminal.

Keys: c, m, n, d and i sort by CPU, memory, network, disk and id; r reverses;
/ filters by id, Enter keeps the filter and Esc drops it; arrows, j and k, PgUp
and PgDn, Home and End move; q quits. On a narrow terminal, columns are left out.`,
		Example: "  mvm top\n  mvm top --interval 5s",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.width() == 0 || !term.IsTerminal(int(a.In.Fd())) {
				return &tenant.InputError{Msg: "mvm top needs a terminal", Hint: "mvm tenant stats --json is for scripts"}
			}
			h, err := a.host()
			if err != nil {
				return err
			}
			m, err := stats.NewMeter(h, nil)
			if err != nil {
				return err
			}
			return a.showTop(cmd.Context(), topModel{measure: m.Measure, interval: interval, sort: "cpu", color: a.colored()})
		},
	}
	intervalFlag(cmd, &interval, "how often to measure")
	return cmd
}

func (a *app) showTop(ctx context.Context, m topModel) error {
	end, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(a.In), tea.WithOutput(a.Out)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil // as it is meant to end
	}
	if err != nil {
		return fmt.Errorf("cannot show tenants: %w", err)
	}
	return end.(topModel).err
}

// topModel is the view's state. It is a value: every key makes a new one.
type topModel struct {
	measure  func() ([]stats.Usage, error)
	interval time.Duration
	color    bool

	usage         []stats.Usage
	err           error
	sort          string
	reverse       bool
	filter        string
	typing        bool // the filter is being typed
	first         int  // the first row shown
	width, height int
}

// measured is what a measurement gave.
type measured struct {
	usage []stats.Usage
	err   error
}

type tick struct{}

func (m topModel) Init() tea.Cmd { return m.look }

func (m topModel) look() tea.Msg {
	usage, err := m.measure()
	return measured{usage, err}
}

func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.first = m.within(m.first)
	case measured:
		if m.usage, m.err = msg.usage, msg.err; m.err != nil {
			return m, tea.Quit
		}
		m.first = m.within(m.first) // there may be fewer now
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return tick{} })
	case tick:
		return m, m.look
	case tea.KeyPressMsg:
		return m.key(msg)
	}
	return m, nil
}

func (m topModel) key(k tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	name := k.String()
	switch name {
	case "ctrl+c":
		return m, tea.Quit
	case "ctrl+z":
		return m, tea.Suspend
	}
	if m.typing {
		switch {
		case name == "enter":
			m.typing = false
		case name == "esc":
			m.typing, m.filter = false, ""
		case name == "backspace" && m.filter != "":
			m.filter = m.filter[:len(m.filter)-1]
		case len(k.Text) == 1 && k.Text > " " && k.Text < "\x7f":
			m.filter += k.Text
		}
		m.first = 0
		return m, nil
	}
	switch name {
	case "q":
		return m, tea.Quit
	case "c", "m", "n", "d", "i":
		m.sort = map[string]string{"c": "cpu", "m": "memory", "n": "network", "d": "disk", "i": "id"}[name]
	case "r":
		m.reverse = !m.reverse
	case "/":
		m.typing = true
	case "esc":
		m.filter = ""
	case "down", "j":
		m.first++
	case "up", "k":
		m.first--
	case "pgdown":
		m.first += m.page()
	case "pgup":
		m.first -= m.page()
	case "home", "g":
		m.first = 0
	case "end", "G":
		m.first = len(m.usage)
	}
	m.first = m.within(m.first)
	return m, nil
}

// topHead is what stands above the rows: the sums, the keys, the table's head.
const topHead = 3

// page is how many rows there is room for.
func (m topModel) page() int { return max(1, m.height-topHead) }

// within is the first row to show so that the page is as full as it can be.
func (m topModel) within(first int) int {
	return max(0, min(first, len(m.rows())-m.page()))
}

// rows are the tenants that the filter lets through, sorted.
func (m topModel) rows() []stats.Usage {
	var list []stats.Usage
	for _, u := range m.usage {
		if strings.Contains(u.ID, m.filter) {
			list = append(list, u)
		}
	}
	by := map[string]func(stats.Usage) float64{
		"cpu":     func(u stats.Usage) float64 { return u.CPUPercent },
		"memory":  func(u stats.Usage) float64 { return float64(u.Memory) },
		"network": func(u stats.Usage) float64 { return u.NetReceived.PerSecond + u.NetSent.PerSecond },
		"disk":    func(u stats.Usage) float64 { return u.DiskRead.PerSecond + u.DiskWritten.PerSecond },
		"id":      func(stats.Usage) float64 { return 0 },
	}[m.sort]
	slices.SortStableFunc(list, func(a, b stats.Usage) int {
		return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.ID, b.ID))
	})
	if m.reverse {
		slices.Reverse(list)
	}
	return list
}

func (m topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

func (m topModel) screen() string {
	rows := m.rows()
	var cpu float64
	var memory uint64
	for _, u := range rows {
		cpu, memory = cpu+u.CPUPercent, memory+u.Memory
	}
	var b strings.Builder
	head := fmt.Sprintf("%d running, CPU %.0f %%, memory %s; by %s", len(rows), cpu, byteSize(int64(memory)), m.sort)
	if m.filter != "" || m.typing {
		head += ", filter /" + m.filter
	}
	if m.typing {
		head += "_"
	}
	keys := "c m n d i sort, r reverses, / filters, q quits"
	if m.color {
		keys = dim.Styled(keys)
	}
	b.WriteString(ansi.Truncate(head, m.width, "…") + "\n" + ansi.Truncate(keys, m.width, "…") + "\n")
	t := usageTable()
	for _, u := range rows[min(m.first, len(rows)):] {
		t.row(usageRow(u)...)
	}
	var body strings.Builder
	if err := t.print(&body, m.width); err != nil { // a strings.Builder takes everything
		return err.Error()
	}
	lines := strings.Split(strings.TrimSuffix(body.String(), "\n"), "\n")
	lines = lines[:max(0, min(len(lines), m.height-topHead+1))]
	if m.color && len(lines) > 0 {
		lines[0] = ansi.NewStyle(ansi.AttrReverse).Styled(lines[0])
	}
	b.WriteString(strings.Join(lines, "\n"))
	return b.String()
}
