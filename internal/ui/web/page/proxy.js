// The Proxy page: the way out, its switch, and a box that explains a host.
import { post, why } from "./api.js";
import { $, debounced, el, setText } from "./dom.js";
import { onStatus, refresh } from "./live.js";
import { attempt, explain, inform, onClick } from "./notice.js";
import { lockable } from "./source.js";
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

function drawKerberos(s) {
  const paused = s.proxy.paused_until;
  $("kerberos").checked = s.proxy.kerberos;
  lockable($("kerberos"), s.settings["kerberos.enabled"] ?? {});
  setText($("pause-state"), paused ? t("pause.state", { time: clock(paused), left: left(paused) }) : "");
  $("resume").hidden = !paused;
  $("pause-15").hidden = $("pause-60").hidden = Boolean(paused) || !s.proxy.kerberos;
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
  const ask = () => tryHost($("try").value.trim());
  $("try").addEventListener("input", ask);
  onLanguage(ask);
}
