# What a Sidekiq process of the ledger loads: the jobs, a poller that looks often, a log without a line for each job.
require_relative "jobs"

Sidekiq.options[:poll_interval_average] = 0.3
Sidekiq.options[:timeout] = 15
Sidekiq.logger.level = Logger::WARN
Sidekiq.configure_server { |config| config.server_middleware { |chain| chain.add Ledger::Runs } }

# The poller waits up to five seconds before its first look, so that many processes don't look at once.
Sidekiq::Scheduled::Poller.prepend(Module.new do
  private

  def initial_wait
  end
end)
