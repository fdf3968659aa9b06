# Reads everything that Sidekiq's API can read and prints it as one line of JSON.
require "json"
require "sidekiq"
require "sidekiq/api"
require_relative "jobs"

stats = Sidekiq::Stats.new
processes = Sidekiq::ProcessSet.new
seen = {
  processed: stats.processed,
  failed: stats.failed,
  enqueued: stats.enqueued,
  history: Sidekiq::Stats::History.new(3).processed.values.sum,
  queues: Sidekiq::Queue.all.map { |queue| [queue.name, queue.size, queue.latency.floor] }.sort,
  processes: processes.map { |process| [process["concurrency"], process["queues"].sort, process["busy"]] },
  beats: processes.map { |process| process["beat"] },
  work: Sidekiq::Workers.new.map { |_, _, work| work["payload"]["class"] },
  retries: Sidekiq::RetrySet.new.map { |job| job.klass },
  scheduled: Sidekiq::ScheduledSet.new.size,
  dead: Sidekiq::DeadSet.new.map { |job| job["args"].first }.sort,
  redis: Sidekiq.redis_info["redis_version"]
}
if ARGV[0] == "manage"
  Sidekiq::Queue.new("parked").clear
  PlainJob.set(queue: "parked").perform_async("parked-1")
  jid = PlainJob.set(queue: "parked").perform_async("parked-2")
  job = Sidekiq::Queue.new("parked").find_job(jid)
  seen[:found] = job.args
  seen[:deleted] = job.delete
  seen[:parked] = Sidekiq::Queue.new("parked").size
  Sidekiq::Queue.new("parked").clear
  Sidekiq::DeadSet.new.clear
  seen[:dead_left] = Sidekiq::DeadSet.new.size
end
puts JSON.generate(seen)
