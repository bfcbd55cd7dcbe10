"use strict";
(function () {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const plots = Array.from(document.querySelectorAll(".plot"));
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const size = window.innerWidth < 600 ? 11 : 13;
  const axis = { automargin: true, title: { font: { size: size } }, gridcolor: "#e6e9ed",
    zerolinecolor: "#b6bdc5", linecolor: "#8c959f", ticks: "outside", ticklen: 4,
    tickcolor: "#8c959f" };
  const heat = { colorscale: page.scale, colorbar: { thickness: 14, outlinewidth: 0 } };
  const template = { data: { heatmap: [heat] }, layout: {
    font: { family: "system-ui, sans-serif", size: size, color: "#1b1f24" },
    colorway: page.palette, paper_bgcolor: "#fff", plot_bgcolor: "#fff", hovermode: "closest",
    xaxis: axis, yaxis: axis, margin: { l: 56, r: 16, t: 16, b: 44 },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" } } };

  function draw(plot) {
    if (plot.dataset.state) return;
    plot.dataset.state = "drawing";
    const figure = page.figures[Number(plot.dataset.figure)];
    const layout = Object.assign({ template: template, autosize: true }, figure.layout);
    if (touch) layout.dragmode = false;  // a finger on a figure scrolls the page
    Plotly.newPlot(plot, figure.data, layout, { responsive: true, displaylogo: false,
      displayModeBar: touch ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] })
      .then(function () { plot.dataset.state = "drawn"; });
  }

  const near = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    });
  }, { rootMargin: "600px 0px" });
  plots.forEach(function (plot) { near.observe(plot); });

  // Paper is narrower than most screens: A4 between its margins. Two narrow figures fit a page.
  window.addEventListener("beforeprint", function () {
    plots.forEach(draw);
    plots.forEach(function (plot) {
      plot.dataset.height = plot.style.height;
      if (plot.parentNode.classList.contains("half")) plot.style.height = "330px";
      Plotly.relayout(plot, { autosize: false, width: 640, height: plot.clientHeight });
    });
  });
  window.addEventListener("afterprint", function () {
    plots.forEach(function (plot) {
      plot.style.height = plot.dataset.height;
      Plotly.relayout(plot, { autosize: true, width: null, height: null });
    });
  });

  function key(cell, numeric) {
    const text = cell.textContent;
    if (!numeric) return text;
    return text === "" || text === "–" ? null : Number(text);
  }

  function sort(head) {
    const row = head.parentNode, body = head.closest("table").tBodies[0];
    const column = Array.prototype.indexOf.call(row.cells, head);
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    Array.from(row.cells).forEach(function (each) { each.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", order);
    Array.from(body.rows)
      .map(function (each) { return { row: each, key: key(each.cells[column], numeric) }; })
      .sort(function (a, b) {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
        return sign * (numeric ? a.key - b.key : a.key.localeCompare(b.key));
      })
      .forEach(function (each) { body.appendChild(each.row); });
  }
  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () { sort(button.parentNode); });
  });
})();
