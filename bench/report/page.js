"use strict";
// Values under the pointer. Without this script the page is complete.
(() => {
  const forward = {
    linear: v => v, time: v => v, log: v => Math.log10(v),
    nines: v => -Math.log10(1 - Math.min(v, 1 - 1e-12)),
  };
  const digits = v => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
  const seconds = v => v < 1e-3 ? digits(v * 1e6) + " µs" : v < 1 ? digits(v * 1e3) + " ms" : digits(v) + " s";
  const where = {
    linear: digits, time: v => digits(v) + " s", log: seconds,
    nines: v => Number((100 * v).toPrecision(8)) + " %",
  };
  for (const figure of document.querySelectorAll("figure")) {
    const area = figure.querySelector(".area");
    const data = JSON.parse(figure.querySelector("script").textContent);
    const at = forward[data.kind], from = at(data.min), to = at(data.max);
    const lines = (data.lines || []).map(l => ({ ...l, place: l.x.map(v => (at(v) - from) / (to - from)) }));
    const pointer = document.createElement("div"), values = document.createElement("div");
    pointer.className = "pointer";
    values.className = "values";
    const nearest = (places, p) => {
      let best = -1;
      places.forEach((v, i) => { if (best < 0 || Math.abs(v - p) < Math.abs(places[best] - p)) best = i; });
      return best;
    };
    const move = event => {
      const box = area.getBoundingClientRect();
      const p = (event.clientX - box.left) / box.width;
      if (p < 0 || p > 1) return;
      const text = [];
      let x = null;
      for (const l of lines) {
        const i = nearest(l.place, p);
        if (i < 0 || Math.abs(l.place[i] - p) > 0.05) continue;
        x ??= l.x[i];
        text.push(l.name + "  " + (data.unit === "s" ? seconds(l.y[i]) : digits(l.y[i]) + " " + data.unit));
      }
      if (!text.length) return;
      values.textContent = where[data.kind](x) + "\n" + text.join("\n");
      pointer.style.left = 100 * p + "%";
      values.style.left = p < 0.5 ? `calc(${100 * p}% + .6rem)` : "auto";
      values.style.right = p < 0.5 ? "auto" : `calc(${100 * (1 - p)}% + .6rem)`;
      area.append(pointer, values);
    };
    area.addEventListener("pointermove", move);
    area.addEventListener("pointerdown", move);
    area.addEventListener("pointerleave", () => { pointer.remove(); values.remove(); });
  }
})();
// With #selfcheck the page looks at itself and writes what it sees into
// attributes of its root: for the test that runs a browser.
if (location.hash === "#selfcheck") addEventListener("load", () => {
  const root = document.documentElement, faults = [];
  const visible = e => getComputedStyle(e).display !== "none" && e.getClientRects().length > 0;
  const apart = (a, b) => a.right <= b.left + .5 || b.right <= a.left + .5 || a.bottom <= b.top + .5 || b.bottom <= a.top + .5;
  let plots = 0, labels = 0;
  for (const figure of document.querySelectorAll("figure")) {
    const name = figure.querySelector("figcaption").firstChild.textContent.trim();
    const drawn = [...figure.querySelectorAll(".area .curve")].filter(c => c.getTotalLength() > 0 && c.getBoundingClientRect().width > 0);
    if (drawn.length > 0 && drawn.length === JSON.parse(figure.querySelector("script").textContent).lines.length) plots++;
    else faults.push(name + ": not every curve is drawn");
    const frame = figure.getBoundingClientRect();
    const boxes = [...figure.querySelectorAll(".tick, .ytitle, .xtitle, .legend li, figcaption")].filter(e => visible(e) && e.textContent.trim());
    labels += boxes.length;
    boxes.forEach((e, i) => {
      const box = e.getBoundingClientRect();
      if (box.left < frame.left || box.right > frame.right + .5 || box.bottom > frame.bottom + .5)
        faults.push(name + ": " + e.textContent.trim() + " sticks out");
      for (const other of boxes.slice(i + 1))
        if (!apart(box, other.getBoundingClientRect())) faults.push(name + ": " + e.textContent.trim() + " lies on " + other.textContent.trim());
    });
    const box = figure.querySelector(".area").getBoundingClientRect();
    figure.querySelector(".area").dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width / 2, clientY: box.top + 5 }));
    if (figure.querySelector(".values")) root.dataset.pointed = Number(root.dataset.pointed || 0) + 1;
    figure.querySelector(".area").dispatchEvent(new PointerEvent("pointerleave"));
  }
  if (root.scrollWidth > root.clientWidth) faults.unshift("the page is wider than the window: " + root.scrollWidth + " of " + root.clientWidth);
  if (matchMedia("print").matches) for (const table of document.querySelectorAll(".scroll"))
    if (table.scrollWidth > table.clientWidth) faults.unshift("a table is cut off on paper: " + table.textContent.trim().slice(0, 60));
  root.dataset.plots = plots;
  root.dataset.labels = labels;
  root.dataset.width = root.clientWidth;
  root.dataset.back = getComputedStyle(document.body).backgroundColor;
  root.dataset.faults = JSON.stringify(faults.slice(0, 50));
  root.dataset.checked = "yes";
});
