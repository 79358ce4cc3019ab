package main

import (
	"fmt"
	"image/color"
	"os"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sealhttp/sealhttp/bench/peers"
)

// The colours of Okabe and Ito, which all tell apart.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}, {90, 90, 90, 255},
}

func init() {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
}

func newPlot(title, x string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 13
	p.Title.Padding = 8
	p.X.Label.Text = x
	p.X.Label.TextStyle.Font.Size = 11
	p.X.Tick.Label.Font.Size = 10
	p.Y.Label.TextStyle.Font.Size = 11
	p.Y.Tick.Label.Font.Size = 10
	p.BackgroundColor = color.White
	p.Legend.TextStyle.Font.Size = 10
	p.Legend.Padding = 2
	return p
}

// save writes a plot as SVG, with a margin, for browsers that may lack the font.
func save(p *plot.Plot, width, height vg.Length, path string) error {
	canvas := vgsvg.New(width, height)
	page := draw.New(canvas)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())
	p.Draw(draw.Crop(page, 8, -16, 8, -8))
	var b strings.Builder
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	svg := strings.ReplaceAll(b.String(), "font-family:Liberation Sans;", "font-family:Liberation Sans,Arial,Helvetica,sans-serif;")
	var out strings.Builder
	for line := range strings.Lines(svg) {
		out.WriteString(strings.TrimRight(line, " \t\n") + "\n")
	}
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

// nameRows puts names on the Y axis, with room for a font that is wider than ours.
func nameRows(p *plot.Plot) {
	p.Y.Tick.Length = 20
	p.Y.Tick.LineStyle = draw.LineStyle{Color: color.White, Width: 0.1} // without a width, there is no room either
	p.Y.LineStyle.Width = 0
}

// drawCost is what a call costs by the size of its bodies.
func drawCost(path string, r *measured) error {
	p := newPlot("What a service does for one call, X25519-AES256GCM", "body, each way (at the left end: none)")
	p.Y.Label.Text = "time on one core"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	const none = 128 // stands for no bytes on the axis
	for i, line := range []struct {
		title string
		name  func(size string) string
		dash  bool
	}{
		{"exchange, with a caller's key", func(s string) string { return exchangeRow(s, "sealhttp-callerkey") }, false},
		{"message", func(s string) string { return messageRow(s, "sealhttp") }, false},
		{"exchange", func(s string) string { return exchangeRow(s, "sealhttp") }, false},
		{"floor: one decapsulation", func(s string) string { return exchangeRow(s, "kem") }, true},
		{"floor: AES-256-GCM in pieces of 16 KiB", func(s string) string { return exchangeRow(s, "aead") }, true},
		{"floor: AES-256-GCM in one piece", func(s string) string { return messageRow(s, "aead") }, true},
	} {
		var points plotter.XYs
		for _, size := range sizes {
			if y := r.bench.seconds(line.name(size.name)); y > 0 {
				points = append(points, plotter.XY{X: max(size.bytes, none), Y: y})
			}
		}
		l, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return fmt.Errorf("%s: %w", line.title, err)
		}
		l.Color, l.Width = palette[i], 1.8
		dots.Color, dots.Shape, dots.Radius = palette[i], draw.CircleGlyph{}, 2.5
		if line.dash {
			l.Dashes, l.Width, dots.Radius = []vg.Length{4, 3}, 1.2, 1.5
		}
		p.Add(l, dots)
		p.Legend.Add(line.title, l)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs = 8, -4
	p.X.Tick.Marker = plot.ConstantTicks{{Value: none, Label: "0"}, {Value: 1 << 10, Label: "1 KiB"}, {Value: 16 << 10, Label: "16 KiB"}, {Value: 1 << 20, Label: "1 MiB"}, {Value: 10 << 20, Label: "10 MiB"}}
	p.Y.Tick.Marker = secondsTicks
	p.Y.Min, p.Y.Max = 200e-9, 500e-3
	p.Add(grid())
	return save(p, 20*vg.Centimeter, 12*vg.Centimeter, path)
}

var secondsTicks = plot.ConstantTicks{
	{Value: 1e-6, Label: "1 µs"}, {Value: 10e-6, Label: "10 µs"}, {Value: 100e-6, Label: "100 µs"},
	{Value: 1e-3, Label: "1 ms"}, {Value: 10e-3, Label: "10 ms"}, {Value: 100e-3, Label: "100 ms"}, {Value: 1, Label: "1 s"},
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = color.Gray{225}, color.Gray{225}
	return g
}

// drawPeers is each peer's time for a call, at three sizes.
func drawPeers(path string, r *measured) error {
	p := newPlot("What a service does for one call, by what seals it", "time on one core; further left is faster")
	p.X.Scale = plot.LogScale{}
	p.Add(grid())
	all := peers.All()[1:]
	var names plot.ConstantTicks
	for i, peer := range all {
		names = append(names, plot.Tick{Value: float64(len(all) - i), Label: peer.Name})
	}
	for i, size := range []string{"1KiB", "1MiB", "10MiB"} {
		var points plotter.XYs
		var labels []string
		for j, peer := range all {
			y := r.peers.seconds(peerRow(size, peer.Name))
			if y == 0 {
				return fmt.Errorf("%s was not measured at %s", peer.Name, size)
			}
			points = append(points, plotter.XY{X: y, Y: float64(len(all) - j)})
			labels = append(labels, seconds(y))
		}
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		dots.Color, dots.Shape, dots.Radius = palette[i], draw.CircleGlyph{}, 3.5
		p.Add(dots)
		p.Legend.Add(strings.NewReplacer("K", " K", "M", " M").Replace(size), dots)
		texts, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: labels})
		if err != nil {
			return err
		}
		for j := range texts.TextStyle {
			texts.TextStyle[j].Font.Size = 8
			texts.TextStyle[j].Color = palette[i]
			texts.TextStyle[j].XAlign = text.XCenter
		}
		texts.Offset = vg.Point{Y: 5}
		p.Add(texts)
	}
	p.Y.Tick.Marker = names
	nameRows(p)
	p.X.Tick.Marker = secondsTicks
	p.X.Min, p.X.Max = 40e-6, 1
	p.Y.Min, p.Y.Max = 0.5, float64(len(all))+0.8
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, -6, -6
	return save(p, 22*vg.Centimeter, 12*vg.Centimeter, path)
}

// drawLoad is core-seconds for a million calls, of services under load.
func drawLoad(path string, r *measured) error {
	p := newPlot("A million calls of 1 KiB each way over loopback, HTTP included", "seconds of one core")
	rows := r.services.Rows
	values := make(plotter.Values, len(rows))
	names := make([]string, len(rows))
	g := grid()
	g.Horizontal.Width = 0
	p.Add(g)
	for series, prefix := range []string{"sealhttp", "", "plain"} {
		of := make(plotter.Values, len(rows))
		for i, row := range rows {
			at := len(rows) - 1 - i // the first on top
			values[at], names[at] = row.CoreSecondsPerMillion, row.Profile
			switch isOurs, isPlain := strings.HasPrefix(row.Profile, "sealhttp"), row.Profile == "plain"; {
			case prefix == "" && !isOurs && !isPlain, prefix == "plain" && isPlain, prefix == "sealhttp" && isOurs:
				of[at] = row.CoreSecondsPerMillion
			}
		}
		bars, err := plotter.NewBarChart(of, 0.5*vg.Centimeter)
		if err != nil {
			return err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, []color.Color{palette[0], palette[5], palette[6]}[series], 0
		p.Add(bars)
	}
	var points plotter.XYs
	var labels []string
	for i, v := range values {
		points = append(points, plotter.XY{X: v, Y: float64(i)})
		labels = append(labels, fmt.Sprintf("%.0f", v))
	}
	texts, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: labels})
	if err != nil {
		return err
	}
	for i := range texts.TextStyle {
		texts.TextStyle[i].Font.Size = 10
		texts.TextStyle[i].YAlign = text.YCenter
	}
	texts.Offset = vg.Point{X: 4}
	p.Add(texts)
	p.NominalY(names...)
	p.Y.Tick.Label.Font.Size = 10
	nameRows(p)
	p.X.Min = 0
	p.X.Max *= 1.1
	return save(p, 20*vg.Centimeter, 10*vg.Centimeter, path)
}
