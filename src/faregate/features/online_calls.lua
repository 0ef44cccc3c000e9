-- Follows online_runs.lua in one library: what is read from runs, and the functions that are called.

-- Readings.

-- The first second of a window, and the place at which it ends.
local function bounds(reading, event)
  local now = floor(event.second / reading.grain)
  local first = (now - reading.delay - reading.window + 1) * reading.grain
  if reading.delay == 0 then return first, event.second, event.within, reading.itself end
  return first, (now - reading.delay + 1) * reading.grain - 1, 4294967295, true
end

local function read_last(run, block, k)
  while k == 0 do
    block = before(run, block)
    if not block then return NOTHING, NOTHING end
    k = block.n
  end
  local second = record_at(block, k - 1)
  return run.totals and value_at(run, block, k - 1) or NOTHING, second
end

local function read_first(run, block, k)
  while k == block.n do block, k = after(run, block), 0 end
  local second = record_at(block, k)
  return NOTHING, second
end

-- The whole panes from one to another: of an entity with few events the hash holds fewer than a window has.
local function whole_panes(key, first, last)
  local found = {}
  if call('HLEN', key) <= last - first + 1 then
    local known = call('HGETALL', key)
    for index = 1, #known, 2 do
      local pane = tonumber(known[index])
      if pane >= first and pane <= last then found[#found + 1] = known[index + 1] end
    end
    return found
  end
  local fields = {}
  for pane = last, first, -1 do fields[#fields + 1] = string.format('%d', pane) end
  if #fields > 0 then found = call('HMGET', key, unpack(fields)) end
  return found
end

-- The panes of a window. Only the last may have events in it that are not to be seen: then they are looked at one by one.
local function panes_of(run, reading, first, second, within, through)
  local spec = run.spec.panes[reading.pane]
  local from, to = floor(first / reading.grain), floor(second / reading.grain)
  local whole = measure(run, to * reading.grain + reading.grain - 1, 4294967295, true)
  local partial = whole ~= measure(run, second, within, through)
  local found = whole_panes(pane_key(run, reading.pane), math.max(from, 0), to - (partial and 1 or 0))
  if partial then
    found[#found + 1] = gathered(run, spec, math.max(first, to * reading.grain), second, within, through) or false
  end
  return found
end

local function read_extremes(panes)
  local least, greatest = NOTHING, NOTHING
  for _, pane in ipairs(panes) do
    if pane then
      local low, high = unpack_bytes('<dd', pane)
      if least ~= least or low < least then least = low end
      if greatest ~= greatest or high > greatest then greatest = high end
    end
  end
  return least, greatest
end

local function read_distinct(panes, cap)
  local known, count = {}, 0
  for _, pane in ipairs(panes) do
    for from = 1, pane and #pane or 0, 8 do
      local code = string.sub(pane, from, from + 7)
      if not known[code] then
        known[code], count = true, count + 1
        if count == cap then return count, 0 end
      end
    end
  end
  return count, 0
end

-- Windows of one run often end at the same place.
local function measure_end(run, second, within, through)
  local known = run.end_of_window
  if not known or known.second ~= second or known.within ~= within or known.through ~= through then
    known = { second = second, within = within, through = through }
    known.n, known.total, known.block, known.k = measure(run, second, within, through)
    run.end_of_window = known
  end
  return known.n, known.total, known.block, known.k
end

local function read(reading, run, event)
  local first, second, within, through = bounds(reading, event)
  if reading.kind == 'extremes' then
    return read_extremes(panes_of(run, reading, first, second, within, through))
  elseif reading.kind == 'distinct' then
    return read_distinct(panes_of(run, reading, first, second, within, through), reading.cap)
  end
  local n, total, block, k = measure_end(run, second, within, through)
  local earlier_n, earlier_total, first_block, first_k = measure(run, math.max(first, 0), 0, false)
  if reading.kind == 'total' then return n - earlier_n, total - earlier_total end
  if n == earlier_n then return NOTHING, NOTHING end
  if reading.kind == 'first' then return read_first(run, first_block, first_k) end
  return read_last(run, block, k)
end

-- What is asked for.

local function event_of(args)
  local source = PLAN.sources[tonumber(args[1])]
  local event = { source = source, name = args[1] .. ':' .. args[2], second = tonumber(args[3]) }
  event.within, event.observed = tonumber(args[4]), tonumber(args[5])
  event.entities, event.values, event.runs = {}, {}, {}
  for index = 1, source.entities do event.entities[index] = args[8 + index] end
  event.first_value = 8 + source.entities
  return event
end

-- The run of an entity is opened once a call.
local function run_of(event, number, entity)
  if not event.runs[number] then event.runs[number] = open_run(number, entity) end
  return event.runs[number]
end

local function value_of(event, args, update)
  if update.field == 0 then return 0 end
  local given = args[event.first_value + update.field]
  if PLAN.runs[update.run].holds == 'codes' then return given end
  return tonumber(given)
end

local function read_all(event, itself, answers)
  for number, reading in ipairs(PLAN.readings) do
    if reading.itself == itself then
      local entity = event.entities[PLAN.runs[reading.run].entity]
      local a, b = NOTHING, NOTHING
      if entity ~= '' then a, b = read(reading, run_of(event, reading.run, entity), event) end
      answers[number] = pack('<dd', a, b)
    end
  end
end

-- Fails before anything is written.
local function require_exact(event, args)
  for _, update in ipairs(event.source.runs) do
    local entity = event.entities[update.entity]
    if entity ~= '' and PLAN.runs[update.run].holds == 'totals' then
      local tail = run_of(event, update.run, entity).tail
      local total = math.abs(tail.origin) + math.abs(total_at(tail, tail.n - 1))
      if total + math.abs(value_of(event, args, update)) > TOTAL_MAX then
        error('a total of ' .. entity .. ' is too large to be exact')
      end
    end
  end
end

-- A text that an event lacks has no code, and is in no run.
local function is_in(entity, value)
  return entity ~= '' and value ~= ''
end

-- An event that some of its runs lost is brought back into those.
local function update_all(event, args)
  local status = nil
  require_exact(event, args)
  for _, update in ipairs(event.source.runs) do
    local entity, value = event.entities[update.entity], value_of(event, args, update)
    if is_in(entity, value) then
      local run = run_of(event, update.run, entity)
      local oldest = event.observed - run.spec.keep
      if insert(run, event.second, event.within, value, oldest) then
        status = APPLIED
      end
      status = status or DUPLICATE
    end
  end
  return status or APPLIED
end

local function observe(_, args)
  begin()
  local event = event_of(args)
  local digest, remembered_s = args[6], tonumber(args[7])
  if call('EXISTS', PREFIX .. 'x' .. event.name) == 1 then return string.char(REVERSED) end
  if remembered_s > 0 then
    local known = call('GET', PREFIX .. 'a' .. event.name)
    if known then
      if string.sub(known, 1, 8) ~= digest then return string.char(CONFLICT) end
      update_all(event, args)
      return string.char(DUPLICATE) .. string.sub(known, 9)
    end
  end
  local answers = {}
  if event.source.asks then read_all(event, false, answers) end
  local status = update_all(event, args)
  if event.source.asks then read_all(event, true, answers) end
  if status == APPLIED and tonumber(args[8]) > 0 then
    call('SET', PREFIX .. 'o' .. event.name, cmsgpack.pack(args), 'EX', args[8])
  end
  local answer = table.concat(answers)
  if remembered_s > 0 then
    call('SET', PREFIX .. 'a' .. event.name, digest .. answer, 'EX', remembered_s)
  end
  return string.char(status) .. answer
end

local function ttl_max()
  local ttl = 0
  for _, spec in ipairs(PLAN.runs) do ttl = math.max(ttl, spec.ttl) end
  return ttl
end

-- That the event is reversed is remembered, so that it has no effect when it comes (again).
local function reverse(_, args)
  begin()
  local event = event_of(args)
  local key = PREFIX .. 'x' .. event.name
  if call('EXISTS', key) == 1 then return string.char(DUPLICATE) end
  local removed = false
  for _, update in ipairs(event.source.runs) do
    local entity = event.entities[update.entity]
    if entity ~= '' then
      removed = remove(run_of(event, update.run, entity), event.second, event.within) or removed
    end
  end
  call('SET', key, '', 'EX', ttl_max())
  return string.char(removed and APPLIED or REVERSED)
end

local function reverse_by_id(_, args)
  begin()
  local name = args[1] .. ':' .. args[2]
  local known = call('GET', PREFIX .. 'o' .. name)
  if known then
    call('DEL', PREFIX .. 'o' .. name)
    return reverse(nil, cmsgpack.unpack(known))
  end
  if call('SET', PREFIX .. 'x' .. name, '', 'NX', 'EX', ttl_max()) then return string.char(REVERSED) end
  return string.char(DUPLICATE)
end

-- Filling: one at a time, who holds the lock. All that may be missing meanwhile is why nobody is told that it is warm.
local LOCK, WARM = 'w:' .. PREFIX .. 'lock', 'w:' .. PREFIX .. 'warm'

local function fill(_, args)
  begin()
  local act, holder = args[1], args[2]
  local held = call('GET', LOCK)
  if act == 'begin' and held and args[4] ~= 'force' then return 0 end
  if act ~= 'begin' and held ~= holder then return 0 end
  if act == 'end' then
    call('SET', WARM, args[3])
    call('DEL', LOCK)
  else
    call('SET', LOCK, holder, 'EX', args[3])
    if act == 'begin' then call('DEL', WARM) end
  end
  return 1
end

server.register_function('@FILL@', fill)
server.register_function('@OBSERVE@', observe)
server.register_function('@REVERSE@', reverse)
server.register_function('@REVERSE_BY_ID@', reverse_by_id)
