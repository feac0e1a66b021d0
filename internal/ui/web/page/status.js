// The Status page: can I get out, until when, and what do I do?
import { cause, post } from "./api.js";
import { $, el, remembered, setText } from "./dom.js";
import { onStatus, refresh } from "./live.js";
import { inform, onClick } from "./notice.js";
import { origin } from "./source.js";
import { bytes, clock, left, milliseconds, onLanguage, plural, t } from "./texts.js";

const moods = { valid: "good", expiring: "warn", expired: "bad", none: "bad", unavailable: "bad" };

export const isUsable = (ticket) => ticket.state === "valid" || ticket.state === "expiring";

function setMood(card, mood) {
  card.classList.remove("good", "warn", "bad");
  if (mood) card.classList.add(mood);
}

// A cause in the page's language comes first; what the helper says of this very
// case follows where it is in another language.
const drawProblems = remembered(async (problems) => {
  const items = await Promise.all(problems.map(async (p) => {
    const english = document.documentElement.lang === "en";
    const words = english ? {} : await cause(p.cause);
    const own = [p.text, p.hint].filter(Boolean).join(" ");
    return el("li", {}, el("strong", { textContent: words.text || p.text }), el("span", { textContent: words.text ? words.hint : p.hint }),
      ...(words.text ? [el("p", { className: "quiet", lang: "en", textContent: own })] : []));
  }));
  $("problems").replaceChildren(...items);
  $("problems").hidden = items.length === 0;
});

function drawTicket(ticket) {
  const usable = isUsable(ticket);
  setMood($("ticket-card"), moods[ticket.state]);
  setText($("ticket-state"), t(`ticket.${ticket.state}`));
  setText($("ticket-lead"), ticket.state === "none" ? t("ticket.none.lead") : ticket.principal);
  drawTime(ticket, usable);
  setText($("ticket-renewal"), usable ? renewal(ticket) : "");
  $("ticket-renewal-error").hidden = !ticket.renewal.error;
  setText($("ticket-renewal-error"), t("renewal.error", { error: ticket.renewal.error }));
  $("renew").hidden = !(usable && ticket.renewable);
  $("sign-out").hidden = ticket.state === "none" || ticket.state === "unavailable";
  $("renew").classList.toggle("primary", ticket.state === "expiring");
  $("sign-in").classList.toggle("primary", !usable || ticket.state === "expiring" && !ticket.renewable);
}

function drawTime(ticket, usable) {
  $("ticket-time").hidden = !ticket.expires;
  if (!ticket.expires) return;
  const now = Date.now(), end = Date.parse(ticket.expires), start = ticket.start ? Date.parse(ticket.start) : now;
  const percent = end > start ? Math.min(100, Math.max(0, Math.round(100 * (end - now) / (end - start)))) : 0;
  $("ticket-bar").hidden = !usable;
  $("ticket-bar").value = percent;
  setText($("ticket-start"), usable ? left(end) : t("since", { time: clock(end) }));
  setText($("ticket-end"), usable ? t("until", { time: clock(end) }) : "");
  $("ticket-bar").setAttribute("aria-valuetext", `${$("ticket-start").textContent} ${$("ticket-end").textContent}`.trim());
}

function renewal(ticket) {
  const until = ticket.renew_until ? clock(ticket.renew_until) : "";
  if (ticket.renewal.next) return t("renewal.planned", { time: clock(ticket.renewal.next), until });
  if (ticket.renewable && until) return t("renewal.possible", { until });
  return t("renewal.impossible");
}

// loginOf is how the upstream is logged in at with a password, if it is.
const loginOf = (proxy) => (proxy.logins ?? []).find((l) => l.upstream === proxy.upstream);

// judge tells the proxy's state in a word and a mood, worst first.
function judge(proxy, ticket) {
  if (proxy.state !== "listening") return ["down", "bad"];
  if (!proxy.upstream) return ["no_upstream", "warn"];
  const login = loginOf(proxy); // Kerberos has no part in it
  if (login?.state === "refused" || login?.state === "missing") return ["no_password", "bad"];
  if (login) return ["password", login.in_clear ? "warn" : "good"];
  if (proxy.paused_until) return ["paused", "warn"];
  if (!proxy.kerberos) return ["off", "warn"];
  if (!isUsable(ticket)) return ["waiting", "warn"];
  if (proxy.last_auth.result === "refused" || proxy.last_auth.result === "failed") return ["refused", "bad"];
  return ["ready", "good"];
}

function drawProxy(proxy, ticket) {
  const [state, mood] = judge(proxy, ticket);
  setMood($("proxy-card"), mood);
  setText($("proxy-state"), t(`proxy.${state}`, { time: proxy.paused_until ? clock(proxy.paused_until) : "" }));
  setText($("proxy-lead"), t(`proxy.${state}.lead`, loginOf(proxy) ?? {}));
  $("gateway").hidden = !proxy.gateway;
  if (proxy.gateway) setText($("gateway"), t("proxy.gateway", { listen: proxy.gateway.listen.join(", "), clients: proxy.gateway.clients.join(", ") || "–" }));
  setText($("proxy-listen"), proxy.listen.join(", "));
  setText($("proxy-upstream"), proxy.upstream || t("proxy.none"));
}

function drawLastAuth({ time, result, spn, scheme, token_bytes: size }) {
  const words = [t(`auth.${result}`)];
  if (time) words.push(clock(time));
  if (spn || scheme) words.push(spn || scheme);
  if (size) words.push(t("auth.token", { size: bytes(size) }));
  setText($("proxy-last-auth"), words.join(" · "));
}

const drawCaches = remembered((caches) => {
  setText($("caches-title"), plural("caches", caches.length));
  $("caches").replaceChildren(...caches.map(cacheOf));
  $("caches-card").hidden = caches.length === 0;
});

function cacheOf(c) {
  const tags = [c.used_for_proxy && t("cache.used"), c.default && t("cache.default")].filter(Boolean);
  const entry = (e) => el("li", {}, el("span", { textContent: e.name }), el("span", { className: "quiet", textContent: period(e.expires) }));
  return el("div", { className: "cache" },
    el("strong", { textContent: c.principal || t("cache.unknown") }), " ", ...tags.map((text) => el("span", { className: "tag", textContent: text })),
    el("p", { className: "quiet", textContent: c.cache }),
    ...(c.error ? [el("p", { className: "error", textContent: c.error })] : []),
    el("ul", {}, ...[...c.tgts ?? [], ...c.services ?? []].map(entry)));
}

function period(expires) {
  if (!expires) return "";
  return t(Date.parse(expires) > Date.now() ? "until" : "since", { time: clock(expires) });
}

// testOf sends a request the whole way and says what came of it.
export async function testOf() {
  const answer = await post("v1/test");
  if (!answer.cause) return { good: true, text: t("test.good", { time: milliseconds(answer.ms) }) };
  const words = await cause(answer.cause);
  return { good: false, text: [words.text || answer.text, words.hint].filter(Boolean).join(". ") };
}

async function test() {
  const result = $("test-result");
  result.className = "quiet";
  result.textContent = t("test.running");
  try {
    const { good, text } = await testOf();
    result.className = good ? "" : "error";
    result.textContent = text;
  } catch (error) {
    result.textContent = "";
    throw error;
  }
}

function confirmSignOut() {
  const dialog = $("sign-out-dialog");
  dialog.returnValue = "";
  dialog.showModal();
}

export function start() {
  onStatus((s) => {
    drawProblems(s.problems, document.documentElement.lang);
    drawTicket(s.ticket);
    drawProxy(s.proxy, s.ticket);
    setText($("proxy-upstream-source"), s.proxy.upstream ? origin(s.settings.upstream ?? {}) : "");
    drawLastAuth(s.proxy.last_auth);
    drawCaches(s.tickets, document.documentElement.lang);
  });
  onLanguage(() => { $("test-result").textContent = ""; });
  onClick($("renew"), async () => {
    await post("v1/renew");
    inform(t("renew.done"));
    await refresh();
  });
  onClick($("test"), test);
  $("sign-out").addEventListener("click", confirmSignOut);
  onClick($("sign-out-confirm"), async () => {
    await post("v1/logout");
    inform(t("sign_out.done"));
    await refresh();
  });
}
