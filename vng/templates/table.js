// Tables with sorting, filtering and paging. Their data is JSON in the page; it is shown as text, never as HTML.
// The state of the table last used is kept in the address: #cases?sort=3&dir=desc&q=parrot&group=x&page=2&open=1
(() => {
  "use strict";
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const space = make("template", { innerHTML: "<svg></svg>" }).content.firstChild.namespaceURI;
  const NUMBERS = new Set(["share", "part", "count", "change"]);

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element && name !== "style") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  function shown(kind, value) {
    if (value === null || value === undefined) return "–";
    if (kind === "share" || kind === "part") return (100 * value).toFixed(1);
    if (kind === "change") return (value > 0 ? "+" : "") + (100 * value).toFixed(1);
    if (kind === "count") return value.toLocaleString("en");
    return String(value);
  }

  // Long names lose their middle: beginnings name the set, ends the member.
  const brief = (text) => (text.length > 48 ? `${text.slice(0, 26)}…${text.slice(-20)}` : text);

  function curves(lines, width, height, grid) {
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const add = (tag, kind, name, value) => {
      const child = document.createElementNS(space, tag);
      child.setAttribute("class", kind);
      child.setAttribute(name, value);
      svg.prepend(child);
    };
    lines.forEach((values, index) => {
      const last = Math.max(1, values.length - 1);
      const points = values.map((v, i) => `${((i * width) / last).toFixed(1)},${(height - 1 - (v / 100) * (height - 2)).toFixed(1)}`);
      if (values.length === 1) points.push(`${width},${points[0].split(",")[1]}`);
      add("polyline", "ab"[index], "points", points.join(" "));
    });
    if (grid) for (const y of [0.5, height / 2, height - 0.5]) add("path", "grid", "d", `M0 ${y}H${width}`);
    return svg;
  }

  function build(root, name) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const columns = data.columns;
    const fresh = { sort: data.sort, dir: "asc", q: "", group: "", page: 1, open: "" };
    const state = { ...fresh };
    const texts = columns.map((column, i) => (column.kind === "text" ? i : -1)).filter((i) => i >= 0);
    const words = data.rows.map((row) => texts.map((i) => row[i] ?? "").join("\n").toLowerCase());
    const order = () => data.rows.map((_, i) => i);

    const search = make("input", { type: "search", placeholder: `find ${data.unit}s by name`, ariaLabel: `find ${data.unit}s by name` });
    const groups = make("select", { ariaLabel: "group" }, make("option", { value: "" }, "all groups"));
    const count = make("span", { role: "status" });
    const form = make("form", { onsubmit: (event) => event.preventDefault() }, search);
    if (data.group >= 0) {
      const values = [...new Set(data.rows.map((row) => row[data.group]))].sort(collator.compare);
      for (const value of values) groups.append(make("option", { value }, value || "(none)"));
      if (values.length > 1) form.append(groups);
    }
    form.append(count);
    const heads = columns.map((column, i) => {
      const button = make("button", { type: "button", title: column.text || "", onclick: () => sortBy(i) }, column.name);
      const cell = make("th", { scope: "col", className: NUMBERS.has(column.kind) ? "number" : "" });
      cell.classList.toggle("long", column.name.length > 16);
      cell.append(column.kind === "course" ? column.name : button);
      return cell;
    });
    const body = make("tbody");
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
    const back = make("button", { type: "button", onclick: () => go({ page: state.page - 1 }) }, "‹ previous");
    const on = make("button", { type: "button", onclick: () => go({ page: state.page + 1 }) }, "next ›");
    const place = make("span");
    const pager = make("form", { onsubmit: (event) => event.preventDefault() }, back, place, on);
    root.append(form, make("div", { className: "scroll" }, table), pager);

    function sortBy(i) {
      const start = NUMBERS.has(columns[i].kind) && i !== data.sort ? "desc" : "asc";
      const turned = state.dir === "asc" ? "desc" : "asc";
      go({ sort: i, dir: i === state.sort ? turned : start, page: 1 });
    }

    function compare(a, b) {
      const [x, y] = [data.rows[a][state.sort], data.rows[b][state.sort]];
      if (x === y) return a - b;
      if (x === null || x === undefined) return 1; // missing values come last in either direction
      if (y === null || y === undefined) return -1;
      const way = typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y));
      return (state.dir === "asc" ? way : -way) || a - b;
    }

    function chosen() {
      const wanted = state.q.toLowerCase().split(/\s+/).filter(Boolean);
      return order().filter(
        (i) => (!state.group || data.rows[i][data.group] === state.group) && wanted.every((word) => words[i].includes(word))
      ).sort(compare);
    }

    function draw() {
      const matches = chosen();
      const pages = Math.max(1, Math.ceil(matches.length / data.page));
      state.page = Math.min(Math.max(1, state.page), pages);
      const start = (state.page - 1) * data.page;
      heads.forEach((cell, i) => {
        if (i === state.sort) cell.setAttribute("aria-sort", state.dir === "asc" ? "ascending" : "descending");
        else cell.removeAttribute("aria-sort");
      });
      body.replaceChildren(...matches.slice(start, start + data.page).flatMap(rowsOf));
      const all = data.rows.length.toLocaleString("en");
      count.textContent = matches.length === data.rows.length ? `${all} ${data.unit}s` : `${matches.length.toLocaleString("en")} of ${all} ${data.unit}s`;
      place.textContent = `page ${state.page} of ${pages}`;
      pager.hidden = pages === 1;
      back.disabled = state.page === 1;
      on.disabled = state.page === pages;
      search.value = state.q;
      groups.value = state.group;
    }

    function rowsOf(index) {
      const row = data.rows[index];
      const more = row[row.length - 1];
      const open = state.open === String(index);
      const cells = columns.map((column, i) => {
        if (column.kind === "course") return make("td", {}, courseButton(index, more, open));
        const whole = shown(column.kind, row[i]);
        const text = brief(whole);
        if (i === 0) return make("th", { scope: "row", title: whole }, more.case ? make("a", { href: "#" + more.case, title: "to its pictures" }, text) : text);
        const cell = make("td", { className: NUMBERS.has(column.kind) ? `number ${column.kind}` : text.length > 20 ? "word" : "short", title: whole }, text);
        if (column.kind === "share" && row[i] !== null) {
          cell.style.setProperty("--share", `${100 * row[i]}%`);
          cell.style.setProperty("--tint", column.name === data.score ? "var(--a)" : "var(--b)");
        }
        return cell;
      });
      const rows = [make("tr", {}, ...cells)];
      if (open) rows.push(make("tr", { className: "detail" }, make("td", { colSpan: columns.length }, detail(row, more))));
      return rows;
    }

    function courseButton(index, more, open) {
      if (!more.lines.length || !more.lines[0].length) return "–";
      const click = () => {
        go({ open: open ? "" : String(index) });
        body.querySelector(`[data-row="${index}"]`).focus(); // rows were drawn again
      };
      const label = `${data.course} over time, ${Math.min(...more.lines[0])} to ${Math.max(...more.lines[0])} per cent; show at length`;
      const button = make("button", { type: "button", onclick: click, ariaLabel: label, ariaExpanded: String(open) });
      button.dataset.row = index;
      button.append(curves(more.lines, 120, 24, false));
      return button;
    }

    function detail(row, more) {
      const inner = make("div", { className: "inner" });
      inner.append(make("p", {}, texts.map((i) => row[i]).filter(Boolean).join(", ")));
      const text = more.text >= 0 ? data.texts[more.text] : "";
      if (text) {
        const [from, to] = more.span || [0, 0];
        const letters = [...text]; // spans count code points, JavaScript strings count UTF-16 units
        inner.append(make("p", {}, letters.slice(0, from).join(""), make("mark", {}, letters.slice(from, to).join("")), letters.slice(to).join("")));
      }
      const figure = make("figure", { className: "plot" });
      figure.append(make("figcaption", {}, `${data.course} in per cent`), make("div", {}, make("span", {}, "100"), curves(more.lines, 640, 140, true)));
      figure.append(make("p", {}, ...more.frames.map((frame) => make("span", {}, frame))));
      inner.append(figure);
      if (more.case) inner.append(make("p", {}, make("a", { href: "#" + more.case }, "to its pictures")));
      return inner;
    }

    function go(change) {
      Object.assign(state, change);
      const changed = Object.entries(state).filter(([key, value]) => value !== fresh[key]);
      const hash = `#${name}?${new URLSearchParams(changed)}`;
      try {
        history.replaceState(null, "", hash);
      } catch {
        // some browsers do not change the address of a local file
      }
      draw();
    }

    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => go({ q: search.value, page: 1 }), 120);
    });
    groups.addEventListener("change", () => go({ group: groups.value, page: 1 }));

    function fromAddress() {
      const [target, query] = location.hash.slice(1).split("?");
      if (target !== name || query === undefined) return;
      Object.assign(state, fresh, Object.fromEntries(new URLSearchParams(query)));
      state.sort = Number(state.sort) in columns ? Number(state.sort) : fresh.sort;
      state.page = Number(state.page) || 1;
      draw();
      document.getElementById(name).scrollIntoView();
    }
    addEventListener("hashchange", fromAddress);
    draw();
    fromAddress();
  }

  for (const root of document.querySelectorAll(".table")) build(root, root.id.slice("table-".length));
})();
