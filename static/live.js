// The live tail and the list of events: pause and resume without losing an event, a bound on what the page holds,
// keys to move through the list. The events arrive as HTML, escaped by the server; nothing here writes HTML.
(() => {
  "use strict";
  const ROWS_MAX = 500;

  function start(box) {
    const list = box.querySelector("[data-live-list]");
    const state = box.querySelector("[data-live-state]");
    const words = box.querySelector("[data-live-words]");
    const button = box.querySelector("[data-live-pause]");
    let cursor = "";
    let connection = null;
    let paused = false;
    let ended = false;

    const show = (name, text) => {
      state.dataset.liveState = name;
      words.textContent = text;
      button.textContent = paused ? "Resume" : "Pause";
      button.setAttribute("aria-pressed", String(paused));
      button.disabled = ended;
    };
    const rowsOf = () => list.querySelectorAll(":scope > [data-event]");

    list.addEventListener("htmx:sse:before:connection", (event) => {
      connection = event.detail.connection;
      if (paused || ended) connection.cancelled = true;
      else show("waiting", "Connecting…");
    });
    list.addEventListener("htmx:sse:after:connection", (event) => {
      connection = event.detail.connection;
      show("live", "Live");
    });
    list.addEventListener("htmx:sse:close", () => { connection = null; });
    list.addEventListener("htmx:sse:error", () => {
      if (!paused && !ended) show("waiting", "The connection broke. Reconnecting; no event is lost.");
    });
    list.addEventListener("htmx:sse:before:message", (event) => {
      if (event.detail.message.id) cursor = event.detail.message.id;
    });
    list.addEventListener("htmx:sse:after:message", () => {
      const rows = rowsOf();
      for (let at = rows.length - 1; at >= ROWS_MAX; at -= 1) rows[at].remove();
      const empty = box.querySelector("[data-live-empty]");
      if (empty && rows.length > 0) empty.remove();
    });
    list.addEventListener("weir.rate", (event) => {
      if (!paused && !ended) show("live", JSON.parse(event.detail.data).text);
    });
    const end = (fatal) => (event) => {
      ended = fatal;
      show(fatal ? "ended" : "waiting", JSON.parse(event.detail.data).text);
    };
    list.addEventListener("weir.end", end(false));
    list.addEventListener("weir.end-fatal", end(true));

    button.addEventListener("click", () => {
      if (ended) return;
      paused = !paused;
      if (paused) {
        show("paused", "Paused. What arrives now is shown when you resume.");
        connection?.reader?.cancel();
        return;
      }
      show("waiting", "Connecting…");
      if (connection) return; // not closed yet: it reconnects by itself, from where it stopped
      const url = new URL(list.getAttribute("hx-sse:connect"), location.href);
      if (cursor) url.searchParams.set("from", cursor);
      htmx.ajax("GET", url.pathname + url.search, { source: list, target: list, swap: "afterbegin" });
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "p" && plain(event) && button.isConnected) button.click();
    });
    show("waiting", "Connecting…");
  }

  const plain = (event) =>
    !event.ctrlKey && !event.metaKey && !event.altKey &&
    !event.target.closest("input, textarea, select, [contenteditable]");

  // j and k move through the events, Enter opens one (that is what a summary does).
  document.addEventListener("keydown", (event) => {
    if ((event.key !== "j" && event.key !== "k") || !plain(event)) return;
    const all = [...document.querySelectorAll("[data-event] > summary")];
    if (all.length === 0) return;
    const at = all.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
    all[next].focus();
    event.preventDefault();
  });

  document.querySelectorAll("[data-live]").forEach(start);
})();
