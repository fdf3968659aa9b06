# Writes down what Sidekiq does with each job: one file per process, in the folder LEDGER. A line is
#
#   WORD JID TIME WHO [PLACE [MORE ...]]
#
# TIME is CLOCK_MONOTONIC in seconds, the same clock for all processes of a machine. Lines that count jobs are on the
# disk before the thread goes on; threads that wait at the same moment share one fsync.
require "sidekiq"
require "sidekiq/api"
require "sidekiq/job_retry"
require "sidekiq/fetch"
require "sidekiq/scheduled"

Redis.silence_deprecations = true # Sidekiq 6.4 calls brpop in a way that redis-rb 4.8 warns of

module Ledger
  ROLE = ENV.fetch("LEDGER_ROLE")
  FILE = File.open(File.join(ENV.fetch("LEDGER"), "#{ROLE}-#{Process.pid}"), File::WRONLY | File::APPEND | File::CREAT)
  WRITING = Mutex.new
  SYNCING = Mutex.new
  @written = 0
  @synced = 0

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def self.write(word, jids, *more, sync: true)
    at, who = now, "#{ROLE}-#{Process.pid}/#{Thread.current.object_id}"
    lines = jids.map { |jid| [word, jid, format("%.6f", at), who, *more].join(" ") + "\n" }.join
    mine = WRITING.synchronize do
      FILE.syswrite(lines)
      @written += 1
    end
    sync_up_to(mine) if sync
  end

  def self.sync_up_to(mine)
    SYNCING.synchronize do
      next if @synced >= mine
      upto = WRITING.synchronize { @written }
      FILE.fdatasync
      @synced = upto
    end
  end

  # What puts a job into Redis: the first word before, the second when Redis said yes, the third when nobody knows.
  def self.putting(words, jids, place)
    write(words[0], jids, place)
    done = false
    begin
      result = yield
      done = true
    rescue => error
      write(words[2], jids, place, error.class.name)
      raise
    ensure
      write(words[1], jids, place) if done
    end
    result
  end

  # What takes a job out of Redis: one line when it is over, with the time at which it began.
  def self.taking(place)
    began = format("%.6f", now)
    begin
      payload = yield
    rescue => error
      write("broken", ["-"], place, began, error.class.name, sync: false)
      raise
    end
    write(payload ? "popped" : "empty", [payload ? jid_of(payload) : "-"], from(payload, place), began, sync: false)
    payload
  end

  def self.jid_of(payload)
    job = payload.respond_to?(:job) ? payload.job : payload
    job[/"jid":"([^"]+)"/, 1] || "?"
  end

  def self.from(payload, place)
    payload.respond_to?(:queue) ? payload.queue : place
  end

  PUSH = %w[intent acknowledged unknown].freeze
  MOVE = %w[moving moved unmoved].freeze # a worker's own: the poller's pushes, retries, jobs given back at its end

  module Pushes
    private

    def raw_push(payloads)
      first = payloads.first
      place = first.key?("at") ? "schedule" : "queue:#{first["queue"]}"
      jids = payloads.map { |payload| payload["jid"] }
      Ledger.putting((ROLE == "worker") ? MOVE : PUSH, jids, place) { super }
    end
  end

  module Fetches
    def retrieve_work
      Ledger.taking("queue:*") { super }
    end
  end

  module Polls
    private

    def zpopbyscore(conn, keys: nil, argv: nil)
      Ledger.taking(keys.first) { super }
    end
  end

  module GivesBack
    def requeue
      Ledger.putting(MOVE, [Ledger.jid_of(job)], queue) { super }
    end
  end

  module Retries
    private

    def attempt_retry(worker, msg, queue, exception)
      Ledger.putting(MOVE, [msg["jid"]], "retry") { super }
    end

    # Sidekiq waits up to ten seconds more, by chance; a test has no time for that.
    def delay_for(worker, count, exception)
      0.3
    end
  end

  # Around every job that runs.
  class Runs
    def call(worker, job, queue)
      Ledger.write("got", [job["jid"]], "queue:#{queue}")
      if job["class"] == "FailsOnce" && job["retry_count"].nil?
        Ledger.write("failed", [job["jid"]], "queue:#{queue}")
        raise Deliberate, "the first run of #{job["jid"]} fails"
      end
      yield
    end
  end

  class Deliberate < StandardError; end
end

Sidekiq::Client.prepend(Ledger::Pushes)
Sidekiq::BasicFetch.prepend(Ledger::Fetches)
Sidekiq::BasicFetch::UnitOfWork.prepend(Ledger::GivesBack)
Sidekiq::Scheduled::Enq.prepend(Ledger::Polls)
Sidekiq::JobRetry.prepend(Ledger::Retries)
