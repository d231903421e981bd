package stats

import "github.com/auser/mvm/internal/lifecycle"

// Meter measures tenants again and again.
type Meter struct {
	reader *Reader
	ids    []string // all that run, where it is empty
	before map[string]Sample
}

// NewMeter measures the tenants named, or whichever run.
func NewMeter(h *lifecycle.Host, ids []string) (*Meter, error) {
	reader, err := NewReader(h)
	return &Meter{reader: reader, ids: ids}, err
}

// Measure compares with the time before.
func (m *Meter) Measure() ([]Usage, error) {
	list, err := m.tenants()
	if err != nil {
		return nil, err
	}
	usage, samples := make([]Usage, len(list)), make(map[string]Sample, len(list))
	for i, s := range list {
		samples[s.ID] = m.reader.Read(s)
		usage[i] = Since(m.before[s.ID], samples[s.ID])
	}
	m.before = samples
	return usage, nil
}

func (m *Meter) tenants() ([]lifecycle.Status, error) {
	var list []lifecycle.Status
	for _, id := range m.ids {
		s, err := m.reader.host.Observe(id)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	if len(m.ids) > 0 {
		return list, nil
	}
	all, err := m.reader.host.List()
	for _, s := range all {
		if s.Running {
			list = append(list, s.Status)
		}
	}
	return list, err
}
