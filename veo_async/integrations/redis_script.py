"""The rule of `protocol.slots` in the language of Redis, as one step of the server."""

from typing import Final

__all__: list[str] = []

# Besides the rule: a server that was started since the last report, or knows nothing, may have lost
# the newest reports, so nothing is granted until everybody has reported. Its clock may jump back,
# which stops the ledger's. A report that was overtaken by a later one of its member is ignored.
SCRIPT: Final = """
local key, channel = KEYS[1], ARGV[1]
local report = cjson.decode(ARGV[2])
local name = report.member
local time = redis.call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''

local text = redis.call('GET', key)
local kept
if text then
  local ok
  ok, kept = pcall(cjson.decode, text)
  if not ok or type(kept) ~= 'table' or type(kept.ledger) ~= 'table' or kept.ledger.format ~= 1 then
    return redis.error_reply('VEO the key holds no ledger of this version')
  end
else
  kept = {server = '', now = 0, wall = wall, seqs = {}, ledger = {
    format = 1, quiet = 0, number = 1, members = {}, rows = {}, tickets = {}, departures = {}}}
end
local now = kept.now + math.max(0, wall - kept.wall)
local ledger = kept.ledger
local members, rows, tickets = ledger.members, ledger.rows, ledger.tickets
if kept.server ~= server or not text then
  ledger.quiet = now + report.quiet_ms
end
kept.server, kept.now, kept.wall = server, now, wall
local is_quiet = ledger.quiet > now

if kept.seqs[name] and report.seq <= kept.seqs[name] then
  return redis.error_reply('VEO overtaken')
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end
local in_use
local function total()
  local least
  for _, member in pairs(members) do least = math.min(least or member.total, member.total) end
  return least or report.total
end

-- renew and expire
local old = members[name]
local lease_until = old and old['until'] or 0
if lease_until - now < math.floor(report.lease_ms * 3 / 4) then
  lease_until = now + report.lease_ms
end
members[name] = {['until'] = lease_until, total = report.total}
kept.seqs[name] = report.seq
for each, member in pairs(members) do
  if member['until'] <= now then
    members[each] = nil
    kept.seqs[each] = nil
  end
end
for each, row in pairs(rows) do
  if (row['until'] > 0 and row['until'] <= now)
      or (row['until'] == 0 and not members[row.owner]) then
    rows[each] = nil
  end
end
for each, ticket in pairs(tickets) do
  if ticket['until'] <= now or not members[each] then tickets[each] = nil end
end

-- let go
for _, each in ipairs(report.released) do rows[each] = nil end
local is_orphaned = false
for _, each in ipairs(report.orphaned) do
  if rows[each] and rows[each].owner == name then
    rows[each].owner = ''
    is_orphaned = true
  end
end
local known, held_keys = {}, {}
for _, held in ipairs(report.held) do known[held.key] = true; held_keys[held.key] = true end
for _, each in ipairs(report.wanted) do known[each] = true end
for each, row in pairs(rows) do
  if row.owner == name and row['until'] == 0 and not known[each] then rows[each] = nil end
end

local granted, lost, adopted, wait = {}, {}, {}, -1
if report.is_leaving then
  members[name] = nil
  kept.seqs[name] = nil
  tickets[name] = nil
  for each, row in pairs(rows) do
    if row.owner == name then
      row.owner = ''
      if row['until'] == 0 then rows[each] = nil else is_orphaned = true end
    end
  end
  in_use = count(rows)
else
  -- hold
  local function new_row(held)
    return {owner = name, task = held.task, since = now,
      ['until'] = held.ms > 0 and now + held.ms or 0}
  end
  local tasks, missing = {}, {}
  for _, row in pairs(rows) do
    if row.task ~= '' then tasks[row.task] = true end
  end
  for _, held in ipairs(report.held) do
    local row = rows[held.key]
    if row then
      if held.ms > 0 and (held.is_new or row['until'] == 0) then
        if row['until'] == 0 then row.since = now end
        row['until'] = now + held.ms
      end
      if held.task ~= '' then row.task = held.task end
      if not members[row.owner] then row.owner = name end
    elseif held.ms == 0 or held.is_claim then
      missing[#missing + 1] = held
    elseif not tasks[held.task] then
      rows[held.key] = new_row(held)
    end
  end
  in_use = count(rows)
  local most = total()
  for _, held in ipairs(missing) do
    local may
    if is_quiet then may = report.is_in_touch else may = in_use < most end
    if may then
      rows[held.key] = new_row(held)
      in_use = in_use + 1
    else
      lost[#lost + 1] = held.key
    end
  end
  -- grant
  for _, each in ipairs(report.wanted) do
    if rows[each] then granted[#granted + 1] = each end
  end
  local is_there = {}
  for _, each in ipairs(granted) do is_there[each] = true end
  for _, each in ipairs(report.wanted) do
    if not is_there[each] then
      if not tickets[name] then
        tickets[name] = {number = ledger.number, ['until'] = now + report.ticket_ms}
        ledger.number = ledger.number + 1
      end
      local is_first = true
      for _, ticket in pairs(tickets) do
        if ticket.number < tickets[name].number then is_first = false end
      end
      if not is_first or is_quiet or in_use >= most then break end
      tickets[name] = nil
      rows[each] = {owner = name, task = '', since = now, ['until'] = 0}
      in_use = in_use + 1
      granted[#granted + 1] = each
    end
  end
  if #granted == #report.wanted then
    tickets[name] = nil
  elseif tickets[name]['until'] - now < math.floor(report.ticket_ms / 2) then
    tickets[name]['until'] = now + report.ticket_ms
  end
  -- adopt
  if report.adopts and not is_quiet then
    for each, row in pairs(rows) do
      if row.task ~= '' and row['until'] > 0 and (not members[row.owner]
          or (row.owner == name and not held_keys[each])) then
        row.owner = name
        adopted[#adopted + 1] = {
          key = each, task = row.task, age = now - row.since, left = row['until'] - now}
      end
    end
  end
  -- depart
  if #report.pace == 2 then
    local window = report.pace[2]
    local left, recent = {}, {}
    for _, at in ipairs(ledger.departures) do
      if at > now - math.max(window, 60000) then left[#left + 1] = at end
    end
    while #left > 1000 do table.remove(left, 1) end
    for _, at in ipairs(left) do
      if at > now - window then recent[#recent + 1] = at end
    end
    if #recent >= report.pace[1] then
      wait = recent[#recent - report.pace[1] + 1] + window - now
    else
      left[#left + 1] = now
      wait = 0
    end
    ledger.departures = left
  end
end

-- what changes by itself, and whose turn it is
local next_change = report.lease_ms
local function soon(at)
  if at > now then next_change = math.min(next_change, at - now) end
end
soon(ledger.quiet)
for _, row in pairs(rows) do soon(row['until']) end
for each, member in pairs(members) do if each ~= name then soon(member['until']) end end
local first
for each, ticket in pairs(tickets) do
  if each ~= name then soon(ticket['until']) end
  if not first or ticket.number < tickets[first].number then first = each end
end
redis.call('SET', key, cjson.encode(kept))
if first and first ~= name and not is_quiet and in_use < total() then
  redis.call('PUBLISH', channel, first)
end
if is_orphaned then redis.call('PUBLISH', channel, '*') end
return cjson.encode({granted = granted, lost = lost, adopted = adopted, in_use = in_use,
  total = total(), wait = wait, next = next_change})
"""
