// How the page looks. The colours of plots are those of draw.h.
#pragma once

namespace nalab::report {

inline constexpr const char* kLightColours =
    "--page: #ffffff; --raised: #f5f6f8; --text: #1f2328; --muted: #59636e; --line: #d5d9de; --link: #0a5bc4; "
    "--good: #1a7f37; --fair: #8a6100; --bad: #c02626; ";
inline constexpr const char* kDarkColours =
    "--page: #14171b; --raised: #1e2227; --text: #e4e7ea; --muted: #9aa4af; --line: #343a41; --link: #7ab4ff; "
    "--good: #4cc26a; --fair: #dcab3c; --bad: #ff7a70; ";

inline constexpr const char* kStyle = R"(
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem clamp(0.9rem, 3vw, 2.5rem) 4rem; max-width: 76rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.4rem; }
main h1 { margin-top: 3.5rem; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.6rem 0 0.6rem; padding-top: 0.7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 1.8rem 0 0.4rem; }
header h2, nav h2 { border: 0; padding: 0; margin: 1.3rem 0 0.4rem; font-size: 1.15rem; }
p { margin: 0.4rem 0; max-width: 72ch; }
a { color: var(--link); }
.origin, .caption, figcaption, .notes, .sources, .rule { color: var(--muted); font-size: 0.85rem; }
.caption, figcaption { max-width: 110ch; margin: 0.3rem 0 0.5rem; overflow-wrap: anywhere; }
.claims { list-style: none; margin: 0.5rem 0; padding: 0; }
.claims li { display: grid; grid-template-columns: 7.6rem 1fr; gap: 0 0.8rem; align-items: baseline;
  padding: 0.3rem 0; border-top: 1px solid var(--line); }
.claims li:last-child { border-bottom: 1px solid var(--line); }
.claims .figures { color: var(--muted); font-size: 0.88rem; }
.claims b { font-weight: 600; color: var(--text); }
.verdict { font-weight: 600; font-size: 0.88rem; white-space: nowrap; }
.verdict::before { content: ""; display: inline-block; width: 0.6em; height: 0.6em; margin-right: 0.5em;
  border-radius: 50%; background: currentColor; }
.holds { color: var(--good); }
.part { color: var(--fair); }
.fails, td.failed { color: var(--bad); }
td.failed { font-weight: 600; }
.unknown, td.absent { color: var(--muted); }
nav ul { margin: 0; padding-left: 1.2rem; columns: 19rem; }
figure { margin: 1.6rem 0; }
figure h3 { margin: 0 0 0.3rem; }
.plot { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: 0.4rem; background: var(--raised); }
.plot svg { display: block; width: 100%; min-width: 540px; max-width: 860px; height: auto; margin: 0 auto; }
.scroll { overflow: auto; max-height: 85vh; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.84rem; line-height: 1.35; min-width: 100%;
  font-variant-numeric: tabular-nums; }
thead { position: sticky; top: 0; z-index: 1; }
th { background: var(--raised); font-weight: 600; text-align: left; vertical-align: bottom; white-space: nowrap; }
th.group { text-align: center; }
th, td { padding: 0.28rem 0.6rem; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: var(--raised); }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; }
.number { text-align: right; }
sup { line-height: 0; font-size: 0.75em; margin-left: 0.15em; }
.notes { margin: 0.5rem 0; padding-left: 1.6rem; max-width: 110ch; overflow-wrap: anywhere; }
details { margin: 1.4rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 40rem) {
  body { font-size: 15px; padding-top: 1rem; }
  .claims li { grid-template-columns: 1fr; }
}
@media print { .scroll { max-height: none; overflow: visible; } body { max-width: none; } }
)";

}  // namespace nalab::report
