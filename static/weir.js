// What plain HTML cannot do: copy buttons, relative times, keyboard, theme without a reload, toasts of htmx answers.
// Every page works without this file. No inline handlers, no eval: the Content-Security-Policy allows neither.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  const YEAR_S = 31536000;
  const remember = (name, value) => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${value}; Path=/; Max-Age=${value ? YEAR_S : 0}; SameSite=Lax${secure}`;
  };

  // ---- times: <time datetime="…"> shows "3 min ago", the title the absolute time in the chosen zone -------------------
  // The words are those of `relative` in src/web/page.rs, so that nothing moves when the script takes over.
  const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [2592000, 86400, "day"], [YEAR_S, 2592000, "month"], [Infinity, YEAR_S, "year"]];
  const utc = () => root.dataset.zone === "utc";
  const absolute = (date) => {
    const options = { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" };
    if (utc()) return `${new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" }).format(date)} UTC`;
    return new Intl.DateTimeFormat("en-GB", options).format(date);
  };
  const ago = (date) => {
    const seconds = (date.getTime() - Date.now()) / 1000;
    const distance = Math.abs(seconds);
    if (distance < 5) return "just now";
    const [, size, unit] = STEPS.find(([below]) => distance < below);
    const count = Math.floor((seconds < 0 ? distance : distance + size / 2) / size);
    const words = `${count} ${unit}${count > 1 && unit.length > 3 || count > 1 && unit === "day" ? "s" : ""}`;
    return seconds < 0 ? `${words} ago` : `in ${words}`;
  };
  const showTimes = (from = document) => {
    for (const element of all("time[datetime]", from)) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      element.title = absolute(date);
      element.textContent = element.hasAttribute("data-absolute") ? absolute(date) : ago(date);
    }
  };
  setInterval(() => { if (!document.hidden) showTimes(); }, 20000);

  // ---- toasts ---------------------------------------------------------------------------------------------------------
  const toast = (text, kind = "ok") => {
    const template = one("#toast-template");
    const list = one(".toasts");
    if (!template || !list) return;
    const element = template.content.firstElementChild.cloneNode(true);
    element.classList.add(kind);
    one(".toast-text", element).textContent = text;
    list.append(element);
    while (list.children.length > 4) list.firstElementChild.remove();
    if (kind === "ok") setTimeout(() => element.remove(), 5000);
  };

  // ---- copy: data-copy="text", or the code block the button stands in ---------------------------------------------------
  const copyText = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  const copy = async (button) => {
    const target = button.dataset.copyTarget;
    const source = target ? one(target) : one("pre", button.closest(".code") || document);
    try {
      await copyText(button.dataset.copy || (source ? source.textContent.trimEnd() : ""));
      const use = one("use", button);
      const before = use && use.getAttribute("href");
      if (use) use.setAttribute("href", before.replace(/#.*/, "#check"));
      button.classList.add("copied");
      setTimeout(() => { button.classList.remove("copied"); if (use) use.setAttribute("href", before); }, 1600);
      const status = one("#status");
      if (status) status.textContent = "Copied";
    } catch { toast("The browser did not allow copying; select the text instead.", "warn"); }
  };

  // ---- theme and time zone: the forms post to /preferences; here the same without a reload --------------------------------
  const setTheme = (theme) => {
    if (theme === "system") { delete root.dataset.theme; remember("weir_theme", ""); }
    else { root.dataset.theme = theme; remember("weir_theme", theme); }
    for (const button of all("[data-theme-choice]")) button.setAttribute("aria-pressed", String(button.value === theme));
  };
  const shownTheme = () => root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const setZone = (zone) => {
    root.dataset.zone = zone;
    remember("weir_zone", zone);
    for (const button of all("[data-zone-choice]")) button.setAttribute("aria-pressed", String(button.value === zone));
    showTimes();
  };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("button, [data-href]");
    if (!target) return;
    if (target.matches("[data-copy], [data-copy-target], .code .copy")) copy(target);
    else if (target.matches("[data-dismiss]")) target.closest(".toast").remove();
    else if (target.matches("[data-theme-toggle]")) { event.preventDefault(); setTheme(shownTheme() === "dark" ? "light" : "dark"); }
    else if (target.matches("[data-theme-choice]")) { event.preventDefault(); setTheme(target.value); }
    else if (target.matches("[data-zone-choice]")) { event.preventDefault(); setZone(target.value); }
    else if (target.matches("[data-dialog]")) one(target.dataset.dialog).showModal();
    else if (target.matches("[data-close]")) target.closest("dialog").close();
  });

  // A form is sent once: a second click while the first answer is on its way does nothing.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => { for (const form of all("form[data-sent]")) delete form.dataset.sent; });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
  });

  // ---- keyboard: "/" search, "g h" home …, "c" the page's main action, j/k rows, "?" help -------------------------------
  const GO = { h: "/", a: "/apps", t: "/topics", m: "/teams", l: "/audit", u: "/account", s: "/start" };
  const typing = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;
  let leader = 0;
  const moveRow = (step) => {
    const rows = all("[data-row] a.name, a[data-row]");
    if (rows.length === 0) return;
    const now = rows.indexOf(document.activeElement);
    rows[Math.min(rows.length - 1, Math.max(0, now + step))].focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target.matches("input[type=search]")) { event.target.blur(); return; }
    if (typing(event.target)) return;
    if (event.timeStamp - leader < 1500 && GO[event.key]) { leader = 0; event.preventDefault(); location.assign(GO[event.key]); return; }
    leader = 0;
    if (event.key === "g") leader = event.timeStamp;
    else if (event.key === "/") { const box = one("[data-search]") || one("#search"); if (box) { event.preventDefault(); box.focus(); box.select(); } }
    else if (event.key === "?") { const help = one("#shortcuts"); if (help && !help.open) help.showModal(); }
    else if (event.key === "c") { const main = one("[data-primary]"); if (main) { event.preventDefault(); main.click(); } }
    else if (event.key === "j") moveRow(1);
    else if (event.key === "k") moveRow(-1);
  });

  // ---- htmx: refusals come as a toast (Weir-Toast, URI-encoded), new content gets its times ---------------------------------
  document.addEventListener("htmx:after:request", (event) => {
    const response = event.detail && event.detail.ctx && event.detail.ctx.response;
    const text = response && response.headers && response.headers.get("Weir-Toast");
    if (text) toast(decodeURIComponent(text), response.status >= 400 ? "danger" : "ok");
  });
  document.addEventListener("htmx:error", () => toast("Weir did not answer. Check the connection and try again.", "danger"));
  document.addEventListener("htmx:after:swap", () => showTimes());

  const ready = () => {
    showTimes();
    const wrong = one("[aria-invalid=true]");
    if (wrong) wrong.focus();
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ready);
  else ready();
  window.weir = { toast, showTimes };
})();
