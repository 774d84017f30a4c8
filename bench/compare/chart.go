package main

import (
	"cmp"
	"fmt"
	"html/template"
	"os"
	"slices"
	"strings"
)

// bar is one contender's in the chart, in pixels.
type bar struct {
	Name, Label string
	Y, Width    int
	Color       string
}

// Sizes of the chart, in pixels.
const (
	chartWidth = 720
	barsLeft   = 170
	barsWidth  = 460
	barsTop    = 64
	barStep    = 30
)

var chart = template.Must(template.New("").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img" font-family="sans-serif" font-size="14">
<title>{{.Title}}</title>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="bold" fill="#1f2328">{{.Title}}</text>
<text x="16" y="46" font-size="12" fill="#59636e">{{.Note}}</text>
{{- range .Bars}}
<text x="160" y="{{.Y}}" dy="15" text-anchor="end" fill="#1f2328">{{.Name}}</text>
<rect x="170" y="{{.Y}}" width="{{.Width}}" height="20" rx="2" fill="{{.Color}}"/>
<text x="176" y="{{.Y}}" dx="{{.Width}}" dy="15" fill="#1f2328">{{.Label}}</text>
{{- end}}
<line x1="{{.One}}" x2="{{.One}}" y1="58" y2="{{.Bottom}}" stroke="#59636e" stroke-dasharray="3 3"/>
</svg>
`))

// writeChart draws what a permitted GET costs, the cheapest first.
func (r result) writeChart(path string) error {
	o, ok := r.outcome(charted)
	if !ok {
		return fmt.Errorf("drawing %s: the scenario %q was not measured", path, charted)
	}
	return os.WriteFile(path, []byte(o.chart()), 0o644) //nolint:gosec // a picture for all to see
}

func (o outcome) chart() string {
	type cost struct {
		name  string
		ratio float64
	}
	var costs []cost
	for i, name := range o.Entries {
		costs = append(costs, cost{name, o.ratio(i, measurement.cost)})
	}
	slices.SortStableFunc(costs, func(a, b cost) int { return cmp.Compare(a.ratio, b.ratio) })
	scale := barsWidth / max(costs[len(costs)-1].ratio, 1)
	var bars []bar
	for i, c := range costs {
		color := "#a7b4c2"
		if c.name == scopegate.name {
			color = "#1f6feb"
		}
		bars = append(bars, bar{c.name, fmt.Sprintf("%.2f", c.ratio), barsTop + i*barStep, int(c.ratio * scale), color})
	}
	bottom := barsTop + len(bars)*barStep
	var text strings.Builder
	err := chart.Execute(&text, map[string]any{
		"Title": o.Title + ": processor time of a request", "Note": "reverse_proxy = 1.00, less is better; " + o.Load,
		"Width": chartWidth, "Height": bottom + 12, "Bottom": bottom, "One": barsLeft + int(scale), "Bars": bars,
	})
	if err != nil {
		panic(err) // the template fits what it is given
	}
	return text.String()
}
