/// The report's style sheet: one column on a phone, two of figures on a desk, light or dark as the
/// reader's system is.
enum ReportStyle {
  static let sheet = """
    :root{color-scheme:light dark;--page:#fbfbf9;--card:#ffffff;--ink:#1c2126;--soft:#525c66;
    --line:#d9dde1;--grid:#e6e9ec;--axis:#8a939c;--code:#f0f2f4;--link:#0b57a4;
    --s0:#0067a8;--s1:#c24a00;--s2:#00755a;--s3:#93387c;--s4:#7d6200;--s5:#3f4750;
    --good:#00693e;--part:#8a5a00;--bad:#b3261e;--none:#525c66;
    --bank-page:#ffffff;--bank0:#e9edf0;--bank1:#7fb2e5;--bank2:#f0953f;--bank4:#dd5a32;
    --bank8:#b92d2d;--bank9:#7a1026;--bank-text:#ffffff}
    @media (prefers-color-scheme:dark){:root{--page:#14171a;--card:#1c2024;--ink:#e9ecef;--soft:#aab3bc;
    --line:#363d44;--grid:#2d333a;--axis:#78828c;--code:#262b31;--link:#84bdf5;
    --s0:#5db5f0;--s1:#ff9a55;--s2:#3fd0a4;--s3:#e59bd2;--s4:#e2c94e;--s5:#d5dbe1;
    --good:#5fd39a;--part:#e8b64c;--bad:#ff8a80;--none:#aab3bc;
    --bank-page:#1c2024;--bank0:#2b3138;--bank1:#4f8cc9;--bank2:#f0953f;--bank4:#ff7048;
    --bank8:#ff5c5c;--bank9:#ffb3c4;--bank-text:#14171a}}
    *{box-sizing:border-box}
    html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
    body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,
    "Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;overflow-wrap:break-word}
    header,main,footer{max-width:1180px;margin:0 auto;padding:0 16px}
    header{padding-top:24px}
    h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4em}
    h2{font-size:1.3rem;line-height:1.25;margin:2.4em 0 .3em;padding-top:.6em;
    border-top:2px solid var(--line)}
    h3{font-size:1.02rem;margin:0 0 .3em;line-height:1.3}
    p{margin:.4em 0;max-width:76ch}
    a{color:var(--link)}
    nav ul{list-style:none;padding:0;margin:1em 0;display:flex;flex-wrap:wrap;gap:.3em 1.2em}
    nav a{display:inline-block;padding:.25em 0}
    .soft{color:var(--soft)}
    .box{overflow-x:auto;-webkit-overflow-scrolling:touch;border:1px solid var(--line);
    border-radius:8px;background:var(--card);margin:.7em 0}
    .slim{max-width:560px}
    table{border-collapse:collapse;width:100%;font-size:.92rem}
    caption{text-align:left;padding:.5em .7em;color:var(--soft)}
    th,td{text-align:left;vertical-align:top;padding:.45em .7em;border-bottom:1px solid var(--line)}
    tr:last-child>td,tr:last-child>th{border-bottom:0}
    thead th{color:var(--soft);font-weight:600;white-space:nowrap}
    tbody th{font-weight:600}
    td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
    code{font:.86em/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
    background:var(--code);border-radius:4px;padding:.1em .35em;overflow-wrap:anywhere}
    pre{margin:.35em 0;overflow-x:auto;background:var(--code);border-radius:6px;padding:.5em .7em}
    pre code{background:none;padding:0;white-space:pre;overflow-wrap:normal}
    small{display:block;color:var(--soft);font-size:.85em;font-weight:400}
    .claims td:nth-child(2),.claims td:nth-child(3){max-width:24ch}
    .verdict{font-weight:600}
    .holds{color:var(--good)}.partly{color:var(--part)}.fails{color:var(--bad)}
    .unchecked,.unscored{color:var(--none)}
    .figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));
    gap:16px;margin:1em 0}
    figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;
    padding:14px 14px 10px;min-width:0}
    figure.wide{grid-column:1/-1}
    figure svg{display:block;width:100%;height:auto;font-family:inherit}
    figure .scroll{overflow-x:auto}
    figure .scroll svg{min-width:640px;max-width:820px}
    .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
    .legend{list-style:none;padding:0;margin:.5em 0;display:flex;flex-wrap:wrap;gap:.15em 1em;
    font-size:.9rem}
    .legend li{display:flex;align-items:center;gap:.4em}
    .legend svg{width:34px;height:14px;flex:none}
    details{margin:.5em 0}
    summary{cursor:pointer;color:var(--link);padding:.25em 0}
    .kind{border:1px solid var(--line);border-radius:99px;padding:.05em .6em;font-size:.82rem;
    color:var(--soft);white-space:nowrap}
    footer{padding-top:2em;padding-bottom:3em}
    @media (max-width:640px){
    figure>svg{font-size:15.5px}
    .claims thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
    .claims,.claims tbody,.claims tr,.claims td,.claims th{display:block;width:auto;max-width:none}
    .claims tr{padding:.6em 0;border-bottom:1px solid var(--line)}
    .claims tr:last-child{border-bottom:0}
    .claims td,.claims th{border:0;padding:.12em .8em;white-space:normal}
    .claims td:nth-child(n+2):nth-child(-n+5){display:inline-block;padding-right:.2em}
    .claims td:nth-child(n+2):nth-child(-n+5).void{display:none}
    .claims td.n{text-align:left;white-space:normal}
    .claims td:nth-child(2),.claims td:nth-child(3){max-width:none}
    .claims td[data-name]::before{content:attr(data-name) ": ";color:var(--soft)}
    .claims td.void{display:none}}
    @media print{.box,figure .scroll{overflow:visible}figure{break-inside:avoid}}
    """
}
