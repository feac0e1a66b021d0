// The Proxy page: the way out, its switch, and a box that explains a host.
import { post, why } from "./api.js";
import { $, debounced, el, remembered, setText } from "./dom.js";
import { found, notes, where } from "./found.js";
import { onStatus, refresh, status } from "./live.js";
import { attempt, explain, inform, onClick } from "./notice.js";
import { lockable } from "./source.js";
import { onPage, selected } from "./tabs.js";
import { clock, left, onLanguage, t } from "./texts.js";

function drawUpstream({ value = [], ...from }) {
  const input = $("upstream"), text = value.join(", ");
  lockable(input, from, $("upstream-source"));
  $("upstream-save").disabled = input.disabled;
  if (value.length === 0) setText($("upstream-source"), t("upstream.none"));
  else if (from.source === "file") setText($("upstream-source"), t("source.file"));
  // What the person is typing stays.
  if (input !== document.activeElement && input.value === (input.dataset.shown ?? "")) input.value = text;
  input.dataset.shown = text;
}

async function saveUpstream() {
  const value = $("upstream").value.split(/[\s,]+/).filter(Boolean);
  try {
    await post("v1/settings", { key: "upstream", value });
  } catch (error) {
    $("upstream").setAttribute("aria-invalid", "true");
    $("upstream-error").replaceChildren(...explain(error));
    return;
  }
  $("upstream").removeAttribute("aria-invalid");
  $("upstream-error").replaceChildren();
  inform(t("saved"));
  await refresh();
}

let system = { settings: [] }; // what the system says

// drawFound offers what the system knows and is not in use, and names the
// place of what is.
function drawFound() {
  const { value = [], source, locked } = status()?.settings.upstream ?? {};
  const known = system.settings.filter((s) => s.upstreams?.length > 0);
  const mine = known.find((s) => s.upstreams.join() === value.join());
  if (source === "system" && mine) setText($("upstream-source"), t("found.in_use", { where: where(mine) }));
  const offers = known.filter((s) => s.upstreams.join() !== value.join()).map((s) => {
    const item = el("li", {}, el("span", {}, t("found.offer"), " ", el("strong", { textContent: s.upstreams.join(", ") }), " ",
      el("span", { className: "quiet", textContent: `(${where(s)})` })));
    if (!locked) {
      const button = el("button", { type: "button", textContent: t("found.use"), "aria-label": t("found.use_it", { upstream: s.upstreams.join(", ") }) });
      onClick(button, () => use(s.upstreams));
      item.append(button);
    }
    return item;
  });
  $("found").replaceChildren(...offers, ...(mine && value.length > 0 ? [] : notes(system.settings)));
  $("found").hidden = $("found").children.length === 0;
}

// use takes a proxy over into the settings.
async function use(upstreams) {
  const { value = [], source } = status()?.settings.upstream ?? {};
  await post("v1/settings", { key: "upstream", value: upstreams });
  $("upstream").value = $("upstream").dataset.shown = upstreams.join(", ");
  await refresh();
  $("upstream").focus();
  inform(t("found.used", { upstream: upstreams.join(", ") }), async () => {
    await post("v1/settings", { key: "upstream", value: source === "file" ? value : [] });
    await refresh();
    inform(t("undone"));
  });
}

async function look() {
  system = await found();
  drawFound();
}

// follow looks again when the upstream has changed, which may be the system's
// doing.
const follow = remembered(() => {
  if (selected() === "proxy") look().catch(() => {}); // the page's next showing asks again
});

function drawKerberos(s) {
  const paused = s.proxy.paused_until;
  $("kerberos").checked = s.proxy.kerberos;
  lockable($("kerberos"), s.settings["kerberos.enabled"] ?? {});
  setText($("pause-state"), paused ? t("pause.state", { time: clock(paused), left: left(paused) }) : "");
  $("resume").hidden = !paused;
  $("pause-15").hidden = $("pause-60").hidden = Boolean(paused) || !s.proxy.kerberos || Boolean(s.settings["kerberos.enabled"]?.locked);
}

// keepFocus moves on when the button that has the focus goes.
function keepFocus(to) {
  if (document.activeElement.hidden || document.activeElement === document.body) to.focus();
}

async function pause(seconds) {
  await post("v1/pause", { seconds });
  await refresh();
  keepFocus(seconds ? $("resume") : $("pause-15"));
}

// answerOf words a decision: where the request goes, and why.
export function answerOf(a) {
  return el("div", { className: "answer" },
    el("strong", { textContent: t(`route.${a.route}.full`, { upstream: a.upstream }) }),
    el("span", { lang: "en", textContent: a.explanation }));
}

let asked;

const tryHost = debounced(250, async (target) => {
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  try {
    const content = target ? [answerOf(await why(target, signal))] : [];
    if (!signal.aborted) $("try-answer").replaceChildren(...content);
  } catch (error) {
    if (!signal.aborted) $("try-answer").replaceChildren(el("div", { className: "error" }, ...explain(error)));
  }
});

export function start() {
  onStatus((s) => {
    drawUpstream(s.settings.upstream ?? {});
    drawFound();
    follow(s.settings.upstream);
    drawKerberos(s);
  });
  $("upstream-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt($("upstream-save"), saveUpstream);
  });
  $("kerberos").addEventListener("change", () => attempt($("kerberos"), async () => {
    try {
      await post("v1/kerberos", { enabled: $("kerberos").checked });
    } finally {
      await refresh(); // shows what holds, also after a refusal
    }
  }));
  onClick($("pause-15"), () => pause(15 * 60));
  onClick($("pause-60"), () => pause(60 * 60));
  onClick($("resume"), () => pause(0));
  onPage((page) => {
    if (page === "proxy") look().catch(() => {});
  });
  const ask = () => tryHost($("try").value.trim());
  $("try").addEventListener("input", ask);
  onLanguage(ask);
}
