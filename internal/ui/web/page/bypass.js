// The exact list of hosts that are reached without the company proxy.
import { get, post } from "./api.js";
import { $, debounced, el, remembered, setText } from "./dom.js";
import { onStatus } from "./live.js";
import { attempt, explain, inform, onClick } from "./notice.js";
import { lockable } from "./source.js";
import { onPage } from "./tabs.js";
import { english, known, number, onLanguage, plural, t } from "./texts.js";

const pageSize = 100; // entries drawn at a time; there may be ten thousand
const maxRecent = 8;

let entries = [];
let locked = false;
let shown = pageSize;

function matching() {
  const wanted = $("bypass-filter").value.trim().toLowerCase();
  return wanted ? entries.filter((e) => e.includes(wanted)) : entries;
}

function draw() {
  const found = matching();
  $("bypass-list").replaceChildren(...found.slice(0, shown).map(row));
  $("bypass-more").hidden = found.length <= shown;
  setText($("bypass-count"), found.length === entries.length ? plural("bypass.count", entries.length)
    : t("bypass.found", { n: number(found.length), all: number(entries.length) }));
}

function row(entry) {
  const button = el("button", { type: "button", className: "plain", textContent: t("remove"), disabled: locked, "aria-label": t("bypass.remove", { host: entry }) });
  onClick(button, () => drop(entry, button));
  return el("li", {}, el("span", { textContent: entry }), button);
}

// load takes over the list as it is now, wherever it was changed.
async function load() {
  const list = await get("v1/bypass");
  entries = list.entries;
  locked = list.locked;
  draw();
}

async function change(request) {
  await post("v1/bypass", request);
  await load();
}

// add puts hosts on the list; a refusal is thrown. What was on it before
// stays there when this is undone.
export async function add(hosts) {
  const before = new Set(entries);
  await change({ add: hosts });
  const added = entries.filter((e) => !before.has(e));
  if (added.length === 0) return inform(t("bypass.known"));
  inform(added.length === 1 ? t("bypass.added", { host: added[0] }) : plural("bypass.added_many", added.length), async () => {
    await change({ remove: added });
    inform(t("undone"));
  });
}

async function drop(entry, button) {
  const rows = [...$("bypass-list").children], at = rows.indexOf(button.parentElement);
  await change({ remove: [entry] });
  const next = $("bypass-list").children[Math.min(at, $("bypass-list").children.length - 1)];
  (next?.querySelector("button") ?? $("bypass-add")).focus();
  inform(t("bypass.removed", { host: entry }), async () => {
    await change({ add: [entry] });
    inform(t("undone"));
  });
}

// refusals names each entry that was refused, its reason, and what to take
// instead.
function refusals(error, take) {
  if (error.refused.length === 0) return explain(error);
  return error.refused.map(({ entry, reason, suggestion, code }) => el("div", {},
    el("strong", { textContent: entry }), ` ${english() ? reason : known(`entry.${code}`, t("refusal.unknown"))} `,
    ...(suggestion ?? []).map((s) => {
      const button = el("button", { type: "button", className: "plain", textContent: t("bypass.instead", { host: s }) });
      button.addEventListener("click", () => take(entry, s));
      return button;
    })));
}

async function addOne() {
  const input = $("bypass-add"), host = input.value.trim();
  if (!host) return;
  try {
    await add([host]);
    input.value = "";
    input.removeAttribute("aria-invalid");
    $("bypass-error").replaceChildren();
  } catch (error) {
    input.setAttribute("aria-invalid", "true");
    $("bypass-error").replaceChildren(...refusals(error, (_, better) => {
      input.value = better;
      input.focus();
    }));
  }
}

const split = (text) => text.split(/\r?\n/).flatMap((line) => line.replace(/#.*/, "").split(",")).map((e) => e.trim()).filter(Boolean);

// addMany keeps what is good. What is refused stays in the box with its reason.
async function addMany() {
  const area = $("bypass-paste"), wanted = split(area.value);
  const take = (entry, better) => {
    area.value = split(area.value).map((e) => (e === entry ? better : e)).join("\n");
    area.focus();
  };
  const keep = (rest, complaint) => {
    area.value = rest.join("\n");
    $("bypass-paste-error").replaceChildren(...complaint);
  };
  try {
    if (wanted.length > 0) await add(wanted);
    keep([], []);
  } catch (error) {
    const bad = new Set(error.refused.map((r) => r.entry));
    const good = bad.size > 0 ? wanted.filter((e) => !bad.has(e)) : [];
    keep(bad.size > 0 ? wanted.filter((e) => bad.has(e)) : wanted, refusals(error, take));
    if (good.length > 0) await add(good);
  }
}

// drawRecent offers the hosts that programs asked the company proxy for lately.
async function drawRecent() {
  const { entries: requests } = await get("v1/activity?max=200");
  const listed = new Set(entries);
  const hosts = new Set(requests.filter((r) => r.route === "proxy" && r.host && !listed.has(r.host)).map((r) => r.host).reverse());
  $("bypass-recent").replaceChildren(...[...hosts].slice(0, maxRecent).map(chip));
  $("bypass-recent-box").hidden = hosts.size === 0 || locked;
}

function chip(host) {
  const button = el("button", { type: "button", textContent: `+ ${host}`, "aria-label": t("bypass.add_host", { host }) });
  onClick(button, async () => {
    await add([host]);
    await drawRecent();
    $("bypass-add").focus();
  });
  return el("li", {}, button);
}

// follow loads the list again when the settings say that it has changed.
const follow = remembered(() => {
  load().then(drawRecent).catch(() => {}); // the next status comes with the next try
});

function lock(setting) {
  lockable($("bypass-add"), setting, $("bypass-source"));
  for (const e of document.querySelectorAll("#bypass-form button, #bypass-paste, #bypass-paste-form button")) e.disabled = Boolean(setting.locked);
}

function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form, action);
  });
}

export function start() {
  onStatus((s) => {
    const setting = s.settings["bypass.exact"] ?? {};
    lock(setting);
    follow(setting);
  });
  onSubmit($("bypass-form"), addOne);
  onSubmit($("bypass-paste-form"), addMany);
  $("bypass-filter").addEventListener("input", debounced(100, () => {
    shown = pageSize;
    draw();
  }));
  $("bypass-more").addEventListener("click", () => {
    const first = shown;
    shown += pageSize;
    draw();
    $("bypass-list").children[first].querySelector("button").focus();
  });
  onPage((page) => {
    if (page === "proxy") drawRecent().catch(() => {});
  });
  onLanguage(draw);
}
