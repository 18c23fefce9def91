"use strict";
(() => {
  const content = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches; // a finger on a plot scrolls the page
  const template = () => content.templates[dark.matches ? "dark" : "light"];
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // none that sends anything
  };

  function show(plot, choice) {
    const panels = plot.querySelector(".panels");
    panels.querySelectorAll(".chart").forEach((chart) => Plotly.purge(chart));
    panels.replaceChildren();
    const drawn = []; // after all panels are there: a chart is as wide as its panel is then
    for (const { title, data, layout } of content.plots[plot.dataset.plot][choice]) {
      const panel = document.createElement("div");
      const chart = document.createElement("div");
      panel.className = "panel";
      chart.className = "chart";
      if (title) {
        const head = document.createElement("h4");
        head.textContent = title;
        panel.append(head);
      }
      panel.append(chart);
      panels.append(panel);
      drawn.push([chart, data, layout]);
    }
    const drag = touch ? { dragmode: false } : {};
    for (const [chart, data, layout] of drawn) {
      Plotly.newPlot(chart, data, { ...layout, ...drag, template: template() }, config);
    }
  }

  for (const plot of document.querySelectorAll(".plot")) {
    show(plot, 0);
    const select = plot.querySelector("select");
    if (select) select.addEventListener("change", () => show(plot, Number(select.value)));
  }
  dark.addEventListener("change", () => {
    for (const chart of document.querySelectorAll(".chart")) {
      Plotly.relayout(chart, { template: template() });
    }
  });

  function sort(table, column, direction) {
    const value = (row) => row.cells[column].dataset.sort;
    const number = (text) => (text.trim() === "" ? NaN : Number(text));
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // what is missing comes last
      const less = column === 0 ? x.localeCompare(y) : number(x) - number(y);
      return direction * (less || 0);
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") === "descending" || (column === 0 && head.getAttribute("aria-sort") === "none");
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        sort(table, column, up ? 1 : -1);
      });
    });
  }
})();
